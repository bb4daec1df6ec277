"""A sweep in a table and a figure, as Figures 3 and 4 of Queric and Herfeld's report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lymphoml.files import write_text
from lymphoml.report.ablation_figure import ablation_figure, write_png
from lymphoml.report.runs import Run, find_runs, read_run
from lymphoml.report.settings import differing, flatten, label

# The settings of the paper's ablation, told even where all runs share them: column and key.
ALWAYS = {
    "optimiser": "optim", "lr": "lr", "scheduler": "scheduler", "decay": "scheduler.gamma",
}  # fmt: skip


def summarise_ablation(folder: Path, console: Console | None = None) -> list[Path]:
    """Write a sweep's `ablation.csv`, `ablation.png` and `ablation_best.csv` into its folder.

    The tables are also printed to `console`. Raises InputError where a run of the sweep is
    unfinished.
    """
    runs = [read_run(path) for path in find_runs(folder)]
    names = run_labels(runs)
    scores = score_table(runs)
    best = next(run for run in runs if run.path.name == scores["run"].iloc[0])
    folds = fold_table(best)
    by_score = sorted(runs, key=lambda run: list(scores["run"]).index(run.path.name))
    curves = {names[run.path]: epoch_curve(run) for run in by_score}

    table, figure, best_table = (
        folder / name for name in ("ablation.csv", "ablation.png", "ablation_best.csv")
    )
    write_text(table, scores.to_csv(index=False))
    write_png(ablation_figure(curves), figure)
    write_text(best_table, folds.assign(configurations_tried=len(runs)).to_csv(index=False))
    if console is not None:
        console.print(printed_scores(scores, list(curves)))
        console.print(printed_folds(folds, names[best.path], scores))
    return [table, figure, best_table]


def run_labels(runs: Sequence[Run]) -> dict[Path, str]:
    """What tells a run from the others: its settings, or its folder where these are the same."""
    labels = [label(settings) for settings in differing([run.config for run in runs])]
    return {
        run.path: text if text and labels.count(text) == 1 else run.path.name
        for run, text in zip(runs, labels, strict=True)
    }


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
    table.insert(1, "best_epoch", rows["best_epoch"])
    return pd.concat([table, ends]).rename_axis("fold").reset_index().astype({"best_epoch": "Int64"})


def epoch_curve(run: Run) -> pd.DataFrame:
    """Validation balanced accuracy by epoch: `epoch` (from 1), `mean` and sample `std` over folds.

    It ends with the fold that stopped first: a mean over the folds that are left would jump.
    """
    folds = [
        history.set_index("epoch")["val/balanced_accuracy"] for history in run.histories.values()
    ]
    scores = pd.concat(folds, axis="columns").dropna()
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
    row["best_epoch_balanced_accuracy_mean_optimistic"] = best["mean"]
    row["best_epoch_balanced_accuracy_std_optimistic"] = best["std"]
    return row | {"seconds": run.seconds, "run": run.path.name}


def printed_scores(scores: pd.DataFrame, names: Sequence[str]) -> Table:
    """The sweep's configurations, best first; `names` in the order of `scores`."""
    table = Table(title=f"{len(scores)} configurations", title_justify="left")
    table.add_column("configuration")
    table.add_column("balanced accuracy [95 %]", justify="right")
    table.add_column("AUROC [95 %]", justify="right")
    table.add_column("best epochs, optimistic", justify="right", style="dim")
    for name, (_, row) in zip(names, scores.iterrows(), strict=True):
        mean, std = (row[f"best_epoch_balanced_accuracy_{end}_optimistic"] for end in ("mean", "std"))
        table.add_row(
            escape(name), _interval(row, "balanced_accuracy"), _interval(row, "auroc"),
            f"{mean:.3f} ± {std:.3f}",
        )  # fmt: skip
    return table


def printed_folds(folds: pd.DataFrame, name: str, scores: pd.DataFrame) -> Table:
    """The folds of the best configuration, and how far its being the best may be believed."""
    tried = len(scores)
    table = Table(
        title=f"Best of {tried}: {escape(name)}\nbalanced accuracy, all folds pooled: "
        f"{_interval(scores.iloc[0], 'balanced_accuracy')}",
        caption=f"{tried} configurations were tried, and the highest of {tried} scores flatters: "
        "it was chosen on the patients it is reported on. The best epoch of a fold is chosen on "
        "that fold, which adds 0.03 to 0.10 more.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("fold")
    table.add_column("balanced accuracy", justify="right")
    table.add_column("best epoch", justify="right", style="dim")
    table.add_column("at best epoch, optimistic", justify="right", style="dim")
    for fold, score, epoch, best in folds.itertuples(index=False):
        shown = "" if pd.isna(epoch) else str(epoch + 1)
        table.add_row(
            str(fold), f"{score:.3f}", shown, f"{best:.3f}", end_section=fold == len(folds) - 3
        )
    return table


def _interval(row: pd.Series, score: str) -> str:
    return f"{row[score]:.3f} [{row[f'{score}_low']:.3f}, {row[f'{score}_high']:.3f}]"
