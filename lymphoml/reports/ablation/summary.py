"""A sweep in a table and a figure, as Figures 3 and 4 of Queric and Herfeld's report."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from lymphoml.core.errors import InputError
from lymphoml.core.files import write_csv
from lymphoml.reports.ablation.figure import ablation_figure, write_png
from lymphoml.reports.ablation.scores import baseline_table, score_table, with_other_baselines
from lymphoml.reports.ablation.terminal import printed_folds, printed_scores
from lymphoml.reports.comparison.compare import elsewhere
from lymphoml.reports.page.names import run_labels
from lymphoml.reports.page.scores import baseline_words, clinical_account, told_baselines
from lymphoml.runs.ensemble import ENSEMBLE
from lymphoml.runs.finished_run import Run, find_runs, read_run

WIDTH = 120  # columns, of a table that goes into a file


def summarise_ablation(folder: Path, console: Console | None = None) -> list[Path]:
    """Write a sweep's `ablation.csv`, `ablation.png` and `ablation_best.csv` into its folder.

    Prints both tables. Baselines are the best run's, or of the next one that has any, and left out
    where the runs are of several folds. Raises InputError where a run of the sweep is unfinished.
    """
    console = console or _console()
    runs = [read_run(path) for path in find_runs(folder)]
    names = run_labels(runs)
    scores = score_table(runs)
    best = next(run for run in runs if run.path.name == scores["run"].iloc[0])
    folds = fold_table(best)
    by_score = sorted(runs, key=lambda run: list(scores["run"]).index(run.path.name))
    trained = [run for run in by_score if ENSEMBLE not in run.config]
    curves = {names[run.path]: epoch_curve(run) for run in trained}
    teller = next((run for run in by_score if told_baselines(run)), best)
    apart = elsewhere(by_score)
    baselines = baseline_table(teller).iloc[: 0 if apart else None]
    beside = [baseline_words(teller, name) for name in baselines["baseline"]]

    table, figure, best_table = (
        folder / name for name in ("ablation.csv", "ablation.png", "ablation_best.csv")
    )
    write_csv(table, pd.concat([scores.astype(object), baselines.astype(object)]))
    write_png(ablation_figure(curves), figure)
    write_csv(best_table, folds.assign(configurations_tried=len(runs)))
    console.print(printed_scores(scores, [names[run.path] for run in by_score], baselines, beside))
    for line in _lines(by_score, names, teller):
        console.print(line, markup=False)
    console.print(printed_folds(folds, names[best.path], scores))
    return [table, figure, best_table]


def _console() -> Console:
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    return console


def _lines(runs: Sequence[Run], names: Mapping[Path, str], teller: Run) -> Iterator[str]:
    """What the table of `runs`, best first, leaves to words; `teller` has the baselines."""
    if apart := elsewhere(runs):
        yield (
            f"Other patients or folds than {names[runs[0].path]}: {_listed(apart, names)}. Their "
            f"scores do not stand side by side, and no baseline stands beside them."
        )
    if apart or not told_baselines(teller):
        yield clinical_account(runs[0])
    else:
        yield f"Baselines: those of {names[teller.path]}, in the same folds."
        if others := with_other_baselines(runs, teller):
            yield f"Baselines of other clinical columns or data settings: {_listed(others, names)}."


def _listed(runs: Sequence[Run], names: Mapping[Path, str]) -> str:
    return "; ".join(names[run.path] for run in runs)


def fold_table(run: Run) -> pd.DataFrame:
    """The scores of each fold, then their mean and their sample standard deviation.

    The epoch whose score counts is the last one, or, with `data.inner_val_fraction`, the one that the
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
            f"{run.path} has no validated epoch to draw; set trainer.check_val_every_n_epoch to at most "
            f"trainer.max_epochs"
        )
    return pd.DataFrame(
        {
            "epoch": scores.index + 1,
            "mean": scores.mean(axis="columns"),
            "std": scores.std(axis="columns", ddof=1).fillna(0.0),
        }
    ).reset_index(drop=True)
