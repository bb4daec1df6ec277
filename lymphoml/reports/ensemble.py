"""Average out-of-fold logits of runs with equal folds into a run folder without weights."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml

from lymphoml.core.errors import InputError, format_run_list
from lymphoml.core.files import write_csv, write_json, write_text
from lymphoml.core.untrusted import reject_symlinks
from lymphoml.evaluation.summary import summarise
from lymphoml.reports.comparison.compare import TOLERANCE, align
from lymphoml.runs.checksums import SUMS, write_checksums
from lymphoml.runs.ensemble import DIGESTS, ENSEMBLE, mean_of_logits, predictions_digest
from lymphoml.runs.finished_run import HISTORY, Run, read_run
from lymphoml.runs.provenance import CHANGES
from lymphoml.runs.run_folder import (
    ROW_KEYS,
    SUBGROUPS,
    read_config,
    run_lock,
    write_out_of_fold,
)


def write_ensemble(paths: Sequence[Path], out: Path) -> pd.DataFrame:
    """Write the runs' ensemble to `out`; return its predictions. Raises InputError."""
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise InputError(f"runs={format_run_list(paths)}: give two or more different runs")
    members = [read_run(path) for path in paths]
    if nested := [run.path for run in members if ENSEMBLE in run.config]:
        raise InputError(f"runs: {nested[0]} is an ensemble itself; give its members instead")
    align(members)
    _reject_mixtures(members)
    names = [path.resolve().name for path in paths]
    reject_symlinks(out)
    _check_out(out, names)
    first = members[0]
    data = first.config["data"]
    predictions = mean_of_logits([member.predictions for member in members])
    histories = {fold: pd.DataFrame(columns=list(HISTORY)) for fold in first.histories}
    strata, baselines = first.table(SUBGROUPS, ["patient"]), _shared_baselines(members)
    metrics = summarise(
        predictions, histories, data["folds"],
        None if strata.empty else strata.set_index("patient"), baselines,
        first.metrics.get("hard_max"), first.metrics.get("persons"),
    )  # fmt: skip
    config = {**first.config, ENSEMBLE: names}
    command = f"python -m lymphoml ensemble runs=[{','.join(names)}] out=RUN"
    digests = [*map(predictions_digest, paths)]
    environment = {**first.environment, "command": command, DIGESTS: digests}
    if changes := [each for run in members for each in run.environment.get(CHANGES, [])]:
        environment[CHANGES] = changes
    out.mkdir(parents=True, exist_ok=True)
    with run_lock(out):
        _check_out(out, names)  # again: another process may have made an ensemble of others
        for name in (SUMS, "metrics.json"):  # unfinished from here on
            (out / name).unlink(missing_ok=True)
        write_text(out / "config.yaml", yaml.safe_dump(config, sort_keys=False))
        write_json(out / "environment.json", environment)
        write_csv(out / "folds.csv", first.folds)
        for fold, history in histories.items():
            folder = out / f"fold-{fold}"
            write_out_of_fold(folder, predictions[predictions["fold"] == fold])
            write_csv(folder / "history.csv", history)
            write_checksums(folder)
            write_json(folder / "done.json", {"fold": fold, "epochs": 0, "selected_epoch": None})
        write_out_of_fold(out, predictions)
        for name, table in (("strata", strata), ("baselines", baselines)):
            if table is None or table.empty:
                (out / f"{name}.csv").unlink(missing_ok=True)  # of the members at an earlier time
            else:
                write_csv(out / f"{name}.csv", table)
        write_json(out / "metrics.json", metrics)
        write_checksums(out)
    return predictions


def _reject_mixtures(members: Sequence[Run]) -> None:
    """Raise InputError where a mean over these runs is of no kind."""
    for key, why in (
        ("loss.pos_weight", "their mean has no calibration of its own"),
        ("data.shuffle_bag_labels", "their mean is neither a control nor none"),
    ):
        section, name = key.split(".")
        values = [(run.config.get(section) or {}).get(name) or False for run in members]
        if other := [run for run, each in zip(members, values, strict=True) if each != values[0]]:
            raise InputError(
                f"runs: {key} differs between {members[0].path} and {other[0].path}, so {why}; "
                f"give runs of one"
            )


def _check_out(out: Path, names: list[str]) -> None:
    """Raise InputError unless `out` is missing, empty, or an ensemble of the same members."""
    if not out.exists():
        return
    known = read_config(out) if out.is_dir() else None
    empty = out.is_dir() and all(each.name.startswith(".") for each in out.iterdir())
    if not empty and (known is None or known.get(ENSEMBLE) != names):
        raise InputError(f"out={out}: has other content; choose another folder")


def _shared_baselines(members: Sequence[Run]) -> pd.DataFrame | None:
    """The baselines that are equal in all members; None where a member has none."""
    tables = [run.table("baselines.csv") for run in members]
    if any(table.empty for table in tables):
        return None
    shared, *others = (table.set_index(ROW_KEYS) for table in tables)
    for other in others:
        equal = [name for name in shared if name in other
                 and (other[name] - shared[name]).abs().max() <= TOLERANCE]  # fmt: skip
        shared = shared[equal]
    return shared.reset_index()
