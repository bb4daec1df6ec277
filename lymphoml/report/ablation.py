"""A sweep in a table and a figure, as Figures 3 and 4 of Queric and Herfeld's report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from lymphoml.errors import InputError
from lymphoml.files import write_csv
from lymphoml.members import KEY
from lymphoml.report.ablation_figure import ablation_figure, write_png
from lymphoml.report.ablation_tables import printed_folds, printed_scores
from lymphoml.report.names import run_labels
from lymphoml.report.runs import Run, find_runs, read_run
from lymphoml.report.scores import clinical_account, run_scores
from lymphoml.report.settings import differing, flatten

# The settings of the paper's ablation, told even where all runs share them: column and key.
ALWAYS = {
    "optimiser": "optim", "lr": "lr", "scheduler": "scheduler", "decay": "scheduler.gamma",
}  # fmt: skip


def summarise_ablation(folder: Path, console: Console | None = None) -> list[Path]:
    """Write a sweep's `ablation.csv`, `ablation.png` and `ablation_best.csv` into its folder.

    Prints both tables. Raises InputError where a run of the sweep is unfinished.
    """
    console = console or Console()
    runs = [read_run(path) for path in find_runs(folder)]
    names = run_labels(runs)
    scores = score_table(runs)
    best = next(run for run in runs if run.path.name == scores["run"].iloc[0])
    folds = fold_table(best)
    by_score = sorted(runs, key=lambda run: list(scores["run"]).index(run.path.name))
    trained = [run for run in by_score if KEY not in run.config]
    curves = {names[run.path]: epoch_curve(run) for run in trained}

    table, figure, best_table = (
        folder / name for name in ("ablation.csv", "ablation.png", "ablation_best.csv")
    )
    write_csv(table, scores)
    write_png(ablation_figure(curves), figure)
    write_csv(best_table, folds.assign(configurations_tried=len(runs)))
    console.print(printed_scores(scores, [names[run.path] for run in by_score]))
    console.print(clinical_account(best), markup=False)
    console.print(printed_folds(folds, names[best.path], scores))
    return [table, figure, best_table]


def score_table(runs: Sequence[Run]) -> pd.DataFrame:
    """A row a configuration, the best pooled balanced accuracy (then AUROC) first."""
    settings = differing([run.config for run in runs])
    rows = [_row(run, extra) for run, extra in zip(runs, settings, strict=True)]
    return pd.DataFrame(rows).sort_values(
        ["balanced_accuracy", "auroc"], ascending=False, kind="stable", ignore_index=True
    )


def fold_table(run: Run) -> pd.DataFrame:
    """The scores of each fold, then their mean and their sample standard deviation.

    The epoch whose score counts is the last one, or, with `data.inner_fraction`, the one that the
    inner split chose. Beside it stands the best epoch of the fold, which is optimistic.
    """
    rows = pd.DataFrame(run.metrics["folds"]).set_index("fold")
    table = pd.DataFrame(
        {
            "balanced_accuracy": rows["balanced_accuracy"],
            "best_epoch_balanced_accuracy_optimistic": rows["best_epoch_balanced_accuracy"],
        },
        dtype=float,
    )
    ends = table.agg(["mean", "std"])
    table.insert(1, "best_epoch", rows["best_epoch"].astype("Int64"))
    return pd.concat([table, ends]).rename_axis("fold").reset_index()


def epoch_curve(run: Run) -> pd.DataFrame:
    """Validation balanced accuracy by epoch: `epoch` (from 1), `mean` and sample `std` over folds.

    It ends with the fold that stopped first: a mean over the folds that are left would jump.
    Raises InputError where there is no epoch that all folds were validated after.
    """
    folds = [
        history.set_index("epoch")["val/balanced_accuracy"] for history in run.histories.values()
    ]
    scores = pd.concat(folds, axis="columns").dropna()
    if scores.empty:
        raise InputError(
            f"{run.path} has no validated epoch to draw; set trainer.validate_every to at most "
            f"trainer.max_epochs"
        )
    return pd.DataFrame(
        {
            "epoch": scores.index + 1,
            "mean": scores.mean(axis="columns"),
            "std": scores.std(axis="columns", ddof=1).fillna(0.0),
        }
    ).reset_index(drop=True)


def _row(run: Run, settings: dict[str, Any]) -> dict[str, Any]:
    flat = flatten(run.config)
    metrics, best = run.metrics, run.metrics["best_epoch_balanced_accuracy"]
    row = {name: flat.get(key) for name, key in ALWAYS.items()}
    row |= {key: value for key, value in settings.items() if key not in ALWAYS.values()}
    for score in ("balanced_accuracy", "auroc"):
        row[score] = metrics[score]["value"]
        row[f"{score}_low"], row[f"{score}_high"] = metrics[score]["low"], metrics[score]["high"]
    row["specificity_at_95"] = (run_scores(run) or {}).get("specificity_at_95", {}).get("value")
    row["best_epoch_balanced_accuracy_mean_optimistic"] = best["mean"]
    row["best_epoch_balanced_accuracy_std_optimistic"] = best["std"]
    return row | {"seconds": run.seconds, "run": run.path.name}
