"""How each fold learnt: a panel a fold, with the other folds' curves behind it in grey."""

from typing import Any

import pandas as pd

from lymphoml.report.chart import Axis, Chart, Series, count_axis, share_axis, value_axis
from lymphoml.report.choices import Choices
from lymphoml.report.runs import Run

TITLE = "Learning"
ACCURACY, LOSS, TRAINING = "val/balanced_accuracy", "val/loss", "train/loss"


def content(run: Run, choices: Choices) -> dict[str, Any]:
    curves = {
        column: {fold: _by_epoch(history, column) for fold, history in run.histories.items()}
        for column in (ACCURACY, LOSS, TRAINING)
    }
    last = max((int(history["epoch"].max()) + 1 for history in run.histories.values()), default=1)
    return {
        "accuracy": [_accuracy(fold, curves, last) for fold in run.histories],
        "loss": [_loss(fold, curves, last) for fold in run.histories],
        "folds": list(run.histories),
        "epochs": [
            (epoch, [series.get(epoch) for series in curves[ACCURACY].values()])
            for epoch in range(1, last + 1)
        ],
    }


def _by_epoch(history: pd.DataFrame, column: str) -> pd.Series:
    """By epoch from 1, without those after which nothing was validated."""
    return history.set_index(history["epoch"] + 1)[column].dropna().astype(float)


def _accuracy(fold: int, curves: dict[str, dict[int, pd.Series]], last: int) -> Chart:
    folds = curves[ACCURACY]
    values = [value for curve in folds.values() for value in curve]
    y = share_axis(
        "", int(10 * min([0.5, *values])) / 10, 0.1 if min([0.5, *values]) > 0.3 else 0.2
    )
    series = [_curve("", other, "rule", width=1) for other in folds.values() if len(other)]
    if len(curve := folds[fold]):
        best = curve.nlargest(1)
        series += [
            Series("chance", [1, last], [0.5, 0.5], "muted", "dash", width=1.2),
            _curve(f"fold {fold}", curve, "ink"),
            _points("best epoch (optimistic)", best, "warn", "ring"),
            _points("last epoch", curve.tail(1), "ink", "dot"),
        ]
    return _panel("accuracy", fold, "validation balanced accuracy", last, y, series)


def _loss(fold: int, curves: dict[str, dict[int, pd.Series]], last: int) -> Chart:
    columns = (LOSS, TRAINING)
    values = [v for column in columns for curve in curves[column].values() for v in curve]
    y = value_axis("", min(values, default=0), max(values, default=1))
    series = [_curve("", other, "rule", width=1) for other in curves[LOSS].values() if len(other)]
    for name, column, line in (("training", TRAINING, "dot"), ("validation", LOSS, "solid")):
        if len(curve := curves[column][fold]):
            series.append(_curve(f"{name} loss", curve, "ink", line))
    return _panel("loss", fold, "training and validation loss", last, y, series)


def _panel(kind: str, fold: int, what: str, last: int, y: Axis, series: list[Series]) -> Chart:
    return Chart(
        f"{kind}-{fold}", f"Fold {fold}: {what} by epoch", count_axis("", last, most=5), y,
        series, width=230, height=170, left=34, title=f"fold {fold}", numbers=False,
    )  # fmt: skip


def _curve(
    name: str, curve: pd.Series, colour: str, line: str = "solid", width: float = 1.8
) -> Series:
    told = [f"{name}, epoch {epoch}: {value:.3f}" for epoch, value in curve.items()]
    return Series(name, list(curve.index), list(curve), colour, line, width=width,
                  told=told if name else ())  # fmt: skip


def _points(name: str, points: pd.Series, colour: str, mark: str) -> Series:
    told = [f"{name}, {epoch}: {value:.3f}" for epoch, value in points.items()]
    return Series(name, list(points.index), list(points), colour, None, mark, told=told,
                  size=9 if mark == "ring" else 6)  # fmt: skip
