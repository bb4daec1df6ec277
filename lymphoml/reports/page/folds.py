"""The section of folds: scores, learning curves, the optimistic best epoch for comparison."""

from dataclasses import replace
from typing import Any

import pandas as pd

from lymphoml.reports.comparison.sweep import fold_table
from lymphoml.reports.format import format_score
from lymphoml.reports.page import Choices
from lymphoml.reports.page.chart import Chart, Series, count_axis, number_axis, share_axis
from lymphoml.runs.finished_run import Run

ACCURACY, LOSS, TRAINING = "val/balanced_accuracy", "val/loss", "train/loss"
Curves = dict[int, pd.Series]  # by fold; values by epoch, counted from 1


def folds(run: Run, choices: Choices) -> dict[str, Any]:
    accuracy, validation, training = (_curves(run, each) for each in (ACCURACY, LOSS, TRAINING))
    last = max((int(each.index.max()) for each in training.values() if len(each)), default=1)
    inner = run.config["data"].get("inner_val_fraction")
    return {
        "folds": run.metrics["folds"],
        "ends": fold_table(run).set_index("fold").loc[["mean", "std"]].to_dict("index"),
        "repeats": run.repeat.nunique(), "std": run.metrics.get("split_std"),
        "gap": run.metrics.get("best_epoch_gap"),
        "epoch": "epoch selected on the inner split" if inner else "last epoch",
        "chart": _fold_chart(run), "members": run.config.get("ensemble"),
        "curves": [_accuracy_chart(accuracy, last), _loss_chart(training, validation, last)],
        "fold_titles": [f"fold {fold}" for fold in run.histories],
        "epochs": [(epoch, [curve.get(epoch) for curve in accuracy.values()])
                   for epoch in range(1, last + 1)],
    }  # fmt: skip


def _curves(run: Run, column: str) -> Curves:
    """A column of each history, without epochs that have no value."""
    return {
        fold: history.set_index(history["epoch"] + 1)[column].dropna().astype(float)
        for fold, history in run.histories.items()
    }


def _fold_chart(run: Run) -> Chart:
    folds, pooled = run.metrics["folds"], run.metrics["balanced_accuracy"]
    x = count_axis("fold", len(folds))
    ticks = {place: str(folds[int(place) - 1]["fold"]) for place in x.ticks}
    ends = [x.low, x.high]
    series = [
        Series("all folds pooled", ends, [pooled["value"]] * 2, "accent", in_legend=True),
        Series("chance", ends, [0.5, 0.5], "muted", "dash", width=1.2),
    ]
    for name, key, look, size in (
        ("best epoch (optimistic)", "best_epoch_balanced_accuracy", ("warn", None, "ring"), 11),
        ("reported epoch", "balanced_accuracy", ("ink", None, "dot"), 9),
    ):
        points = {i + 1: fold[key] for i, fold in enumerate(folds) if fold[key] is not None}
        tooltips = [
            f"{name}, fold {folds[place - 1]['fold']}: {format_score(score)}"
            for place, score in points.items()
        ]
        series.append(
            Series(name, list(points), list(points.values()), *look, size=size, tooltips=tooltips,
                   in_legend=True)
        )  # fmt: skip
    lowest = min([0.5, *series[-2].y, *series[-1].y])
    return Chart(
        "Balanced accuracy of each fold at the reported epoch and at its best epoch",
        replace(x, ticks=ticks, grid=False), share_axis("balanced accuracy", lowest), series,
        width=600, height=230, data_table=False,
    )  # fmt: skip


def _accuracy_chart(curves: Curves, last: int) -> Chart:
    lowest = min([0.5, *(value for curve in curves.values() for value in curve)])
    chance = Series("chance", [1, last], [0.5, 0.5], "muted", "dash", width=1.2)
    return Chart(
        "Validation balanced accuracy by epoch: each fold, and the mean over folds",
        count_axis("epoch", last), share_axis("validation balanced accuracy", lowest),
        [chance, *_lines("balanced accuracy", curves)], data_table=False,
    )  # fmt: skip


def _loss_chart(training: Curves, validation: Curves, last: int) -> Chart:
    values = [v for curves in (training, validation) for c in curves.values() for v in c]
    y = number_axis("cross-entropy", min(values, default=0), max(values, default=1))
    series = [*_lines("training loss", training, "dot"), *_lines("validation loss", validation)]
    return Chart("Training and validation loss by epoch: each fold and the mean",
                 count_axis("epoch", last), y, series, data_table=False)  # fmt: skip


def _lines(name: str, curves: Curves, line: str = "solid") -> list[Series]:
    """A faint line for each fold, and the mean over folds at epochs that all of them have."""
    folds = [curve.round(4) for curve in curves.values() if len(curve)]
    series = [Series("", list(c.index), list(c), "rule", line, width=1) for c in folds]
    if not folds:
        return series
    mean = pd.concat(folds, axis="columns").dropna().mean(axis="columns")
    tooltips = [f"{name}, epoch {epoch}, mean: {value:.3f}" for epoch, value in mean.items()]
    return [*series, Series(f"{name}, mean", list(mean.index), list(mean), "ink", line,
                            tooltips=tooltips, in_legend=True)]  # fmt: skip
