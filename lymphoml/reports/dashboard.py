"""A saved view of a W&B project that compares configurations and their folds."""

import hashlib
import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from lymphoml.core.errors import InputError, RuntimeFailure, UserFacingError, one_line
from lymphoml.core.wandb_client import PROJECT, WAIT_S, client, connection_error
from lymphoml.runs.naming import leaves

# Factors of a run's configuration, by what an axis is called.
FACTORS = {
    "preset": "preset", "features": "features", "encoder": "encoder", "pooling": "pooling",
    "fusion": "fusion", "crop": "crop", "resize": "size", "optim": "optimiser",
    "lr": "learning rate", "scheduler": "scheduler", "seed": "seed",
}  # fmt: skip
INTERVALS = ("balanced_accuracy", "auroc", "hard/balanced_accuracy", "hard/auroc")
MOST_RUNS = 1000  # that are read, and shown in a panel
QUERY = """query Dashboard(
  $project: String, $entity: String, $view: String, $filters: JSONString, $first: Int
) {
  project(name: $project, entityName: $entity) {
    allViews(viewType: "project-view", viewName: $view) { edges { node { id } } }
    runs(filters: $filters, first: $first) { edges { node { config } } }
  }
}"""


def save_dashboard(project: str | None, entity: str | None, name: str | None) -> str:
    """Save the view, for the runs of a `name` alone where one is given; return its address.

    A view that an earlier call saved is replaced. Raises InputError without wandb-workspaces, API
    key or project, RuntimeFailure where the server fails.
    """
    if find_spec("wandb_workspaces") is None:
        raise InputError("dashboard: needs wandb-workspaces; run `pip install wandb-workspaces`")
    wandb = client()
    from wandb_workspaces import _graphql
    from wandb_workspaces.workspaces import internal

    address = "lymphoml" + (hashlib.sha256(name.encode()).hexdigest()[:8] if name else "")
    project = project or os.environ.get("WANDB_PROJECT") or PROJECT
    try:
        if not wandb.login(prompt=False, verify=False):
            raise InputError(
                "dashboard: W&B has no API key or is switched off. Run `wandb login`, or set "
                "WANDB_API_KEY; `wandb sync` uploads offline runs."
            )
        if reason := connection_error():
            raise RuntimeFailure(f"dashboard: {reason}")
        api = wandb.Api(timeout=WAIT_S)
        entity = entity or os.environ.get("WANDB_ENTITY") or api.default_entity or ""
        view_id, configs = _read(api, entity, project, name, f"nw-{address}-v")
        view = build_view(entity, project, name, sweep_factors(configs))
        view.id, view.name = view_id, f"nw-{address}-v"
        internal.upsert_view2(view)
        return f"{_graphql.get_app_url(api)}{entity}/{project}?nw={address}"
    except UserFacingError:
        raise
    except wandb.errors.Error as error:  # a key that is not valid
        raise InputError(f"dashboard: W&B: {one_line(error)}") from None
    except Exception as error:  # of its service, which has no public class
        raise RuntimeFailure(f"dashboard: W&B: {one_line(error)}") from error


def sweep_factors(configs: Sequence[dict[str, Any]]) -> list[str]:
    """Return the FACTORS that differ, and settings that differ where these are equal.

    One of those that always differ together, and all FACTORS where nothing differs.
    """

    def differ(values: Sequence[Any]) -> bool:
        return len({repr(value) for value in values}) > 1

    groups: dict[str, list[dict[str, Any]]] = {}
    for config in configs:
        group = groups.setdefault(repr([config.get(name) for name in FACTORS]), [])
        group.append(dict(leaves(config.get("cfg") or {})))
    settings = [each for group in groups.values() for each in group]
    chosen: dict[str, str] = {}
    for key in sorted({key for each in settings for key in each}):
        if any(differ([each.get(key) for each in group]) for group in groups.values()):
            chosen.setdefault(repr([each.get(key) for each in settings]), f"cfg.{key}")
    found = [name for name in FACTORS if differ([config.get(name) for config in configs])]
    return [*found, *chosen.values()] or list(FACTORS)


def build_view(entity: str, project: str, name: str | None, factors: Sequence[str]) -> Any:
    """Return the view in the client's own model, whose identifiers are the same in every call."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    columns = [f"config:{key.replace('.', '.value.', 1) if '.' in key else f'{key}.value'}"
               for key in factors]  # fmt: skip
    columns += [f"summary:{score}{limit}" for score in INTERVALS for limit in ("", "/low", "/high")]
    workspace = ws.Workspace(
        entity=entity, project=project, name=f"lymphoml: {name}" if name else "lymphoml",
        sections=_sections(factors),
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=MOST_RUNS),
        runset_settings=ws.RunsetSettings(
            # A fold that was cut off is in the run that resumed it, too.
            filters=" and ".join(["Metric('State') in ['finished', 'running']"]
                                 + [f"Tags() in [{name!r}]"] * bool(name)),
            groupby=[expr.Metric("Group")],
            order=[expr.Ordering(expr.Summary("balanced_accuracy"), ascending=False)],
            pinned_columns=columns,
        ),
    )  # fmt: skip
    workspace._internal_runset_id = "configurations"
    view: Any = workspace._to_model()
    panels = view.spec.section.panel_bank_config.sections
    # Runs are grouped in the table; a panel that groups them says so itself.
    for settings in (view.spec.section.settings, *(each.local_panel_settings for each in panels)):
        settings.use_runs_table_grouping_in_panels = False
    for number, panel in enumerate(panel for section in panels for panel in section.panels):
        panel.id = f"panel{number}"
    return view


def _sections(factors: Sequence[str]) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    grouped: Any = {"groupby": "Group", "groupby_aggfunc": "mean"}
    spread: Any = grouped | {"groupby_rangefunc": "stddev"}

    def line(title: str, key: str) -> Any:
        title += ": mean and standard deviation of the folds"
        return wr.LinePlot(title=title, x="epoch", y=[key], max_runs_to_show=MOST_RUNS, **spread)

    def bars(title: str, *metrics: str, **options: Any) -> Any:
        return wr.BarPlot(title=title, metrics=list(metrics), max_runs_to_show=MOST_RUNS,
                          max_bars_to_show=MOST_RUNS, **options)  # fmt: skip

    def interval(title: str, key: str) -> Any:
        return bars(f"{title}: 95 % interval", f"{key}/low", key, f"{key}/high", **grouped)

    axes: list[tuple[Any, str]] = [
        *((wr.Config(key), FACTORS.get(key, key.removeprefix("cfg."))) for key in factors),
        (wr.SummaryMetric("balanced_accuracy"), "balanced accuracy"),
        (wr.SummaryMetric("auroc"), "AUROC"),
    ]
    columns = [wr.ParallelCoordinatesPlotColumn(metric=each, display_name=title)
               for each, title in axes]  # fmt: skip
    epoch = "val/balanced_accuracy"
    panels = {
        "Configurations": [
            interval("Balanced accuracy", "balanced_accuracy"), interval("AUROC", "auroc"),
            wr.ParallelCoordinatesPlot(title="Factors and scores", columns=columns),
        ],
        "Hard stratum": [
            interval("Hard stratum, balanced accuracy", "hard/balanced_accuracy"),
            interval("Hard stratum, AUROC", "hard/auroc"),
        ],
        "By epoch": [
            line("Balanced accuracy", epoch), line("Validation loss", "val/loss"),
            line("Training loss", "train/loss"),
        ],
        "Folds": [
            bars("Balanced accuracy of each fold", "fold/balanced_accuracy"),
            bars("AUROC of each fold", "fold/auroc"),
            bars("Last epoch, and best epoch (optimistic: chosen on the patients it scores)",
                 f"{epoch}.last", f"{epoch}.max", **spread),
        ],
    }  # fmt: skip
    return [ws.Section(name=name, panels=each, is_open=True) for name, each in panels.items()]


def _read(api: Any, entity: str, project: str, name: str | None, view: str) -> tuple[str, list]:
    """Return the view's id, "" before it is saved, and the configurations that were trained."""
    from wandb_workspaces._graphql import execute_graphql

    filters = {"jobType": "cv"} | ({"tags": name} if name else {})
    variables = {"project": project, "entity": entity, "view": view,
                 "filters": json.dumps(filters), "first": MOST_RUNS}  # fmt: skip
    found = execute_graphql(api, QUERY, variables)["project"]
    if found is None:
        raise InputError(
            f"dashboard: W&B has no project {entity}/{project}, or the key may not read it. Train "
            f"with W&B online, `wandb sync` offline runs, or set project= and entity=."
        )
    views, runs = ([each["node"] for each in found[key]["edges"]] for key in ("allViews", "runs"))
    if name and not runs:
        raise InputError(f"dashboard: {entity}/{project} has no finished run of name={name}")
    configs = [{key: each["value"] for key, each in json.loads(run["config"]).items()}
               for run in runs]  # fmt: skip
    return views[0]["id"] if views else "", configs
