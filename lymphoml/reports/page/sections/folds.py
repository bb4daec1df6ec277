"""The folds side by side, with the optimistic best epoch beside the honest one."""

from typing import Any

import pandas as pd

from lymphoml.reports.page.chart import Chart, Series, count_axis, share_axis
from lymphoml.reports.page.choices import Choices
from lymphoml.reports.page.wording import score
from lymphoml.runs.finished_run import Run

TITLE = "Folds"
SCORES = ["balanced_accuracy", "auroc", "best_epoch_balanced_accuracy"]


def content(run: Run, choices: Choices) -> dict[str, Any]:
    return {
        "folds": run.metrics["folds"],
        "means": means(run.metrics["folds"]),
        "repeats": run.repeat.nunique(),
        "spread": run.metrics.get("split_std"),
        "gap": run.metrics.get("best_epoch_gap"),
        "epoch": "epoch chosen on inner split"
        if run.config["data"].get("inner_val_fraction")
        else "last epoch",
        "chart": _chart(run),
    }


def means(folds: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and sample standard deviation over folds of each score."""
    table = pd.DataFrame(folds).reindex(columns=SCORES).astype(float)
    return {str(end): dict(row) for end, row in table.agg(["mean", "std"]).iterrows()}


def _chart(run: Run) -> Chart:
    folds, pooled = run.metrics["folds"], run.metrics["balanced_accuracy"]
    last, best = (
        [(index + 1, fold[key]) for index, fold in enumerate(folds) if fold[key] is not None]
        for key in ("balanced_accuracy", "best_epoch_balanced_accuracy")
    )
    values = [value for _, value in [*last, *best]]
    x = count_axis("fold", len(folds), most=15)
    ticks = {place: str(folds[int(place) - 1]["fold"]) for place in x.ticks}
    ends = [x.low, x.high]
    return Chart(
        "folds",
        "Balanced accuracy of each fold at the epoch that counts and at its best epoch",
        type(x)(x.title, x.low, x.high, ticks, rules=False),
        share_axis("balanced accuracy", int(10 * min([0.5, *values])) / 10, 0.1),
        [
            Series("all folds pooled", ends, [pooled["value"]] * 2, "accent", named=True),
            Series("chance", ends, [0.5, 0.5], "muted", "dash", width=1.2),
            _series("best epoch (optimistic)", best, "warn", "ring", 11),
            _series("epoch that counts", last, "ink", "dot", 9),
        ],
        width=600, height=230, numbers=False,
    )  # fmt: skip


def _series(
    name: str, points: list[tuple[int, float]], colour: str, mark: str, size: float
) -> Series:
    return Series(
        name, [x for x, _ in points], [y for _, y in points], colour, None, mark, size=size,
        told=[f"{name}: {score(y)}" for _, y in points], named=True,
    )  # fmt: skip
