"""How each fold learnt: a panel a fold, behind it in grey the other folds of its repeat."""

from typing import Any

import pandas as pd

from lymphoml.reports.page.chart import Axis, Chart, Series, count_axis, share_axis, value_axis
from lymphoml.reports.page.choices import Choices
from lymphoml.runs.finished_run import Run

TITLE = "Learning"
PANELS = 20  # of more folds, those of the first repeat alone are drawn
Curves = dict[str, dict[int, pd.Series]]  # by column and fold
ACCURACY, LOSS, TRAINING = "val/balanced_accuracy", "val/loss", "train/loss"


def content(run: Run, choices: Choices) -> dict[str, Any]:
    curves = {
        column: {fold: _by_epoch(history, column) for fold, history in run.histories.items()}
        for column in (ACCURACY, LOSS, TRAINING)
    }
    last = max(
        (int(history["epoch"].max()) + 1 for history in run.histories.values() if len(history)),
        default=1,
    )
    folds = drawn(list(run.histories), run.config["data"]["folds"])
    return {
        "accuracy": [_accuracy(fold, beside, curves, last) for fold, beside in folds.items()],
        "loss": [_loss(fold, beside, curves, last) for fold, beside in folds.items()],
        "members": run.config.get("ensemble"),
        "folds": list(run.histories),
        "repeats": run.repeat.nunique(),
        "epochs": [
            (epoch, [series.get(epoch) for series in curves[ACCURACY].values()])
            for epoch in range(1, last + 1)
        ],
    }


def drawn(folds: list[int], per_repeat: int) -> dict[int, list[int]]:
    """The folds that have a panel, and the folds of their repeat: grey curves behind each."""
    shown = folds if len(folds) <= PANELS else [f for f in folds if f < per_repeat][:PANELS]
    return {
        fold: [other for other in shown if other // per_repeat == fold // per_repeat]
        for fold in shown
    }


def _by_epoch(history: pd.DataFrame, column: str) -> pd.Series:
    """By epoch from 1, without those after which nothing was validated."""
    return history.set_index(history["epoch"] + 1)[column].dropna().astype(float)


def _accuracy(fold: int, beside: list[int], curves: Curves, last: int) -> Chart:
    folds = curves[ACCURACY]
    values = [value for curve in folds.values() for value in curve]
    y = share_axis(
        "", int(10 * min([0.5, *values])) / 10, 0.1 if min([0.5, *values]) > 0.3 else 0.2
    )
    series = _grey(folds, beside)
    if len(curve := folds[fold]):
        best = curve.nlargest(1)
        series += [
            Series("chance", [1, last], [0.5, 0.5], "muted", "dash", width=1.2),
            _curve(f"fold {fold}", curve, "ink"),
            _points("best epoch (optimistic)", best, "warn", "ring"),
            _points("last epoch", curve.tail(1), "ink", "dot"),
        ]
    return _panel("accuracy", fold, "validation balanced accuracy", last, y, series)


def _loss(fold: int, beside: list[int], curves: Curves, last: int) -> Chart:
    columns = (LOSS, TRAINING)
    values = [v for column in columns for curve in curves[column].values() for v in curve]
    y = value_axis("", min(values, default=0), max(values, default=1))
    series = _grey(curves[LOSS], beside)
    for name, column, line in (("training", TRAINING, "dot"), ("validation", LOSS, "solid")):
        if len(curve := curves[column][fold]):
            series.append(_curve(f"{name} loss", curve, "ink", line))
    return _panel("loss", fold, "training and validation loss", last, y, series)


def _panel(kind: str, fold: int, what: str, last: int, y: Axis, series: list[Series]) -> Chart:
    return Chart(
        f"{kind}-{fold}", f"Fold {fold}: {what} by epoch", count_axis("", last, most=5), y,
        series, width=230, height=170, left=34, title=f"fold {fold}", numbers=False,
    )  # fmt: skip


def _grey(curves: dict[int, pd.Series], folds: list[int]) -> list[Series]:
    return [_curve("", curves[f].round(3), "rule", width=1) for f in folds if len(curves[f])]


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
