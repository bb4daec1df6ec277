"""How well the probabilities separate the classes: ROC, precision-recall, confusion matrix."""

from typing import Any

import pandas as pd
from sklearn.metrics import precision_recall_curve, roc_curve

from lymphoml.evaluation.metrics import THRESHOLD
from lymphoml.reports.page.chart import Chart, Series, share_axis
from lymphoml.reports.page.sections import Choices
from lymphoml.reports.results import count_patients, run_scores
from lymphoml.runs.finished_run import Run

TITLE = "Discrimination"


def content(run: Run, choices: Choices) -> dict[str, Any]:
    repeats = [rows for _, rows in run.predictions.groupby(run.repeat)]
    return {
        "roc": roc_chart(repeats),
        "precision": precision_chart(repeats),
        "scores": run_scores(run),
        "n": count_patients(run),
        "confusion": confusion(run.predictions),
        "repeats": len(repeats),
    }


def roc_chart(repeats: list[pd.DataFrame]) -> Chart:
    """A curve for the out-of-fold predictions of each repeat, and its point at the threshold."""
    series = [Series("chance", [0, 1], [0, 1], "muted", "dash", width=1.2)]
    for rows in repeats:
        x, y, thresholds = roc_curve(rows["label"], rows["probability"])
        called, tumoral = rows["probability"] > THRESHOLD, rows["label"] == 1
        point = float(called[~tumoral].mean()), float(called[tumoral].mean())
        series += _curve(x, y, thresholds, point, "sensitivity {1:.2f}, specificity {2:.2f}")
    return _chart(
        "roc", "ROC curve of the out-of-fold predictions", "1 − specificity", "sensitivity", series
    )


def precision_chart(repeats: list[pd.DataFrame]) -> Chart:
    """Precision by recall; chance is the prevalence."""
    prevalence = float((repeats[0]["label"] == 1).mean())
    series = [Series("prevalence", [0, 1], [prevalence] * 2, "muted", "dash", width=1.2)]
    for rows in repeats:
        y, x, thresholds = precision_recall_curve(rows["label"], rows["probability"])
        called, tumoral = rows["probability"] > THRESHOLD, rows["label"] == 1
        precision = float(tumoral[called].mean()) if called.any() else 1.0
        point = float(called[tumoral].mean()), precision
        # The last point, recall 0 and precision 1, is a convention that no threshold reaches.
        series += _curve(x[:-1], y[:-1], thresholds, point, "recall {0:.2f}, precision {1:.2f}")
    return _chart(
        "precision", "Precision-recall curve of the out-of-fold predictions", "recall",
        "precision (positive predictive value)", series,
    )  # fmt: skip


def confusion(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Tumoral, then reactive patients: how many are called tumoral and reactive."""
    called = rows["probability"] > THRESHOLD
    table = []
    for label, name in ((1, "tumoral"), (0, "reactive")):
        own = called[rows["label"] == label]
        cells = [
            {"count": int(count), "share": count / max(1, len(own)), "right": right}
            for count, right in ((own.sum(), label == 1), ((~own).sum(), label == 0))
        ]
        table.append({"name": name, "total": len(own), "cells": cells})
    return table


def _chart(name: str, description: str, x: str, y: str, series: list[Series]) -> Chart:
    return Chart(name, description, share_axis(x), share_axis(y), series, width=420, height=400,
                 left=34)  # fmt: skip


def _curve(
    x: Any, y: Any, thresholds: Any, point: tuple[float, float], text: str
) -> tuple[Series, Series]:
    """The curve, with `text` of (x, y, 1 - x) as tooltips, and the point at the threshold."""
    tooltips = [
        f"threshold {min(threshold, 1):.3f}: {text.format(a, b, 1 - a)}"
        for a, b, threshold in zip(x, y, thresholds, strict=True)
    ]
    x, y = ([round(float(value), 4) for value in values] for values in (x, y))
    at_threshold = f"threshold {THRESHOLD:g}: {text.format(*point, 1 - point[0])}"
    return (
        Series("", x, y, tooltips=tooltips),
        Series("", [point[0]], [point[1]], "accent", None, "dot", size=10, tooltips=[at_threshold]),
    )
