"""How well tumoral and reactive patients are told apart, at every threshold and at 0.5."""

from typing import Any

import pandas as pd
from sklearn.metrics import precision_recall_curve, roc_curve

from lymphoml.evaluation.metrics import THRESHOLD
from lymphoml.reports.page.chart import Chart, Series, share_axis
from lymphoml.reports.page.choices import Choices
from lymphoml.reports.page.scores import counts, run_scores
from lymphoml.runs.finished_run import Run

TITLE = "Discrimination"


def content(run: Run, choices: Choices) -> dict[str, Any]:
    repeats = [rows for _, rows in run.predictions.groupby(run.repeat)]
    return {
        "roc": roc_chart(repeats),
        "precision": precision_chart(repeats),
        "auroc": run.metrics["auroc"],
        "average_precision": (run_scores(run) or {}).get("average_precision"),
        "n": counts(run),
        "confusion": confusion(run.predictions),
        "repeats": len(repeats),
    }


def roc_chart(repeats: list[pd.DataFrame]) -> Chart:
    """A curve for the out-of-fold predictions of each repeat, with its working point."""
    series = [Series("chance", [0, 1], [0, 1], "muted", "dash", width=1.2)]
    for rows in repeats:
        x, y, thresholds = roc_curve(rows["label"], rows["probability"])
        series += [
            _curve("", x, y, thresholds, "sensitivity {1:.2f}, specificity {2:.2f}"),
            _working_point(rows, roc=True),
        ]
    return Chart(
        "roc", "ROC curve of the out-of-fold predictions",
        share_axis("1 − specificity: reactive patients called tumoral"),
        share_axis("sensitivity: tumoral patients found"), series, width=420, height=400, left=34,
    )  # fmt: skip


def precision_chart(repeats: list[pd.DataFrame]) -> Chart:
    """Precision by recall; chance is the share of tumoral patients."""
    share = float((repeats[0]["label"] == 1).mean())
    series = [Series("share of tumoral patients", [0, 1], [share] * 2, "muted", "dash", width=1.2)]
    for rows in repeats:
        y, x, thresholds = precision_recall_curve(rows["label"], rows["probability"])
        # The last point, recall 0 and precision 1, is a convention that no threshold reaches.
        series += [
            _curve("", x[:-1], y[:-1], thresholds, "recall {0:.2f}, precision {1:.2f}"),
            _working_point(rows, roc=False),
        ]  # fmt: skip
    return Chart(
        "precision", "Precision-recall curve of the out-of-fold predictions",
        share_axis("recall: tumoral patients found"),
        share_axis("precision: tumoral among those called so"), series,
        width=420, height=400, left=34,
    )  # fmt: skip


def confusion(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Tumoral patients, then reactive ones: how many were called what."""
    called = rows["probability"] > THRESHOLD
    table = []
    for label, name in ((1, "tumoral"), (0, "reactive")):
        found = called[rows["label"] == label]
        cells = [
            {"count": int(count), "share": count / max(1, len(found)), "right": right}
            for count, right in ((found.sum(), label == 1), ((~found).sum(), label == 0))
        ]
        table.append({"name": name, "total": len(found), "cells": cells})
    return table


def _curve(name: str, x: Any, y: Any, thresholds: Any, words: str) -> Series:
    told = [
        f"called tumoral from {min(threshold, 1):.3f}: {words.format(a, b, 1 - a)}"
        for a, b, threshold in zip(x, y, thresholds, strict=True)
    ]
    x, y = ([round(float(value), 4) for value in values] for values in (x, y))
    return Series(name, x, y, told=told)


def _working_point(rows: pd.DataFrame, roc: bool) -> Series:
    called, tumoral = rows["probability"] > THRESHOLD, rows["label"] == 1
    found = float(called[tumoral].mean())
    if roc:
        x, y = float(called[~tumoral].mean()), found
        words = f"sensitivity {y:.2f}, specificity {1 - x:.2f}"
    else:
        x, y = found, float(tumoral[called].mean()) if called.any() else 1.0
        words = f"recall {x:.2f}, precision {y:.2f}"
    name = f"threshold in use, {THRESHOLD:g}"
    return Series(name, [x], [y], "accent", None, "dot", size=10, told=[f"{name}: {words}"])
