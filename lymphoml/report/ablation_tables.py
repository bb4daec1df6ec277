"""A sweep's tables for the terminal."""

from collections.abc import Sequence

import pandas as pd
from rich.markup import escape
from rich.table import Table


def printed_scores(scores: pd.DataFrame, names: Sequence[str]) -> Table:
    """The sweep's configurations, best first; `names` in the order of `scores`."""
    table = Table(title=f"{len(scores)} configurations", title_justify="left")
    table.add_column("configuration")
    table.add_column("balanced accuracy [95 %]", justify="right")
    table.add_column("AUROC [95 %]", justify="right")
    table.add_column("best epochs, optimistic", justify="right", style="dim")
    best = "best_epoch_balanced_accuracy_{}_optimistic"
    for name, (_, row) in zip(names, scores.iterrows(), strict=True):
        mean, std = row[best.format("mean")], row[best.format("std")]
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
    text = f"{row[score]:.3f} [{row[f'{score}_low']:.3f}, {row[f'{score}_high']:.3f}]"
    return escape(text)  # rich takes [nan, nan] for a style
