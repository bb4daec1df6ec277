"""A sweep's tables for the terminal."""

from collections.abc import Sequence

import pandas as pd
from rich.markup import escape
from rich.table import Table

MEANING = (
    "Hard: patients of the hard stratum. Spared: reactive patients below the threshold that keeps "
    "95 % of the tumoral ones. ±: over repeats, of the split alone; of best epochs, over folds."
)


def printed_scores(
    scores: pd.DataFrame, names: Sequence[str], baselines: pd.DataFrame, beside: Sequence[str]
) -> Table:
    """The sweep's configurations and baselines, called `names` and `beside`, each best first."""
    table = Table(
        title=f"{len(scores)} configurations", caption=MEANING,
        title_justify="left", caption_justify="left",
    )  # fmt: skip
    table.add_column("configuration", overflow="fold")
    for score in ("balanced\naccuracy", "AUROC", "AUROC,\nhard"):
        table.add_column(f"{score}\n\\[95 %]", justify="right")
    for column in ("spared", "s per\nfold"):
        table.add_column(column, justify="right")
    table.add_column("best\nepochs,\noptimistic", justify="right", style="dim")
    best = "best_epoch_balanced_accuracy_{}_optimistic"
    for name, (place, row) in zip(names, scores.iterrows(), strict=True):
        mean, std = row[best.format("mean")], row[best.format("std")]
        seconds = row["seconds_per_fold"]
        table.add_row(
            escape(name), *_told(row), "" if pd.isna(seconds) else f"{seconds:,.0f}",
            "" if pd.isna(mean) else f"{mean:.3f}\n± {std:.3f}",
            end_section=place == len(scores) - 1,
        )  # fmt: skip
    for name, (_, row) in zip(beside, baselines.iterrows(), strict=True):
        table.add_row(f"baseline: {escape(name)}", *_told(row), "", "")
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


def _told(row: pd.Series) -> list[str]:
    """The cells of a configuration that a baseline has as well; the interval below the score."""
    scores = ("balanced_accuracy", "auroc", "hard_auroc")
    spared, spread = row["specificity_at_95"], row["specificity_at_95_spread"]
    cells = [_interval(row, score, _spread(row[f"{score}_spread"], 3) + "\n") for score in scores]
    return [*cells, "" if pd.isna(spared) else f"{spared:.2f}\n{_spread(spread, 2)}".rstrip()]


def _spread(value: float, digits: int) -> str:
    return "" if pd.isna(value) else f" ± {value:.{digits}f}"


def _interval(row: pd.Series, score: str, between: str = " ") -> str:
    value, low, high = (row[f"{score}{limit}"] for limit in ("", "_low", "_high"))
    if pd.isna(value):
        return ""
    limits = "" if pd.isna(low) else f"[{low:.3f}, {high:.3f}]"
    return escape(f"{value:.3f}{between}{limits}".rstrip())  # rich takes [nan, nan] for a style
