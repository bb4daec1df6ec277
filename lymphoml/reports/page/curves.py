"""The sections about probabilities: discrimination, calibration, net benefit of acting on them."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.metrics import precision_recall_curve, roc_curve

from lymphoml.evaluation.calibration import (
    calibration_intercept,
    calibration_slope,
    decision_curve,
    recalibrate,
    reliability_bins,
    shift_prevalence,
    weighted_prevalence,
)
from lymphoml.evaluation.metrics import THRESHOLD
from lymphoml.evaluation.pooled import pool
from lymphoml.reports.format import format_estimate, format_score
from lymphoml.reports.page import Choices
from lymphoml.reports.page.chart import Chart, Series, number_axis, share_axis
from lymphoml.reports.results import run_scores
from lymphoml.runs.finished_run import Run

CLINICAL, LEGEND = "logistic_regression", "clinical values alone (logistic regression)"
SCALERS = {"Platt scaling": "platt", "temperature scaling": "temperature"}
BALANCED = 0.5  # prevalence that equally weighted classes correspond to


def discrimination(run: Run, choices: Choices) -> dict[str, Any]:
    """How well the probabilities separate the classes: ROC, precision-recall, confusion matrix."""
    repeats = [rows for _, rows in run.predictions.groupby(run.repeat)]
    return {
        "roc": roc_chart(repeats), "precision": precision_chart(repeats), "scores": run_scores(run),
        "confusion": confusion(run.predictions), "repeats": len(repeats),
    }  # fmt: skip


def roc_chart(repeats: list[pd.DataFrame]) -> Chart:
    """A curve for the out-of-fold predictions of each repeat, and its point at the threshold."""
    series = [Series("chance", [0, 1], [0, 1], "muted", "dash", width=1.2)]
    for rows in repeats:
        x, y, thresholds = roc_curve(rows["label"], rows["probability"])
        called, tumoral = rows["probability"] > THRESHOLD, rows["label"] == 1
        point = float(called[~tumoral].mean()), float(called[tumoral].mean())
        series += _curve(x, y, thresholds, point, "sensitivity {1:.2f}, specificity {2:.2f}")
    return Chart(
        "ROC curve of the out-of-fold predictions",
        share_axis("1 − specificity"), share_axis("sensitivity"), series,
        width=420, height=400, left=34,
    )  # fmt: skip


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
    return Chart(
        "Precision-recall curve of the out-of-fold predictions",
        share_axis("recall"), share_axis("precision (positive predictive value)"), series,
        width=420, height=400, left=34,
    )  # fmt: skip


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


def calibration(run: Run, choices: Choices) -> dict[str, Any]:
    """Of the first repeat: a mean over repeats is an ensemble, not a trained model."""
    rows = run.predictions[run.repeat == 0]
    prevalence = float((rows["label"] == 1).mean())
    trained = training_prevalence(run, prevalence)
    patients = rows["label"], rows["probability"].astype(float)
    bins = reliability_bins(*patients)
    curves = {"this run": _net_benefit(rows, choices, trained)}
    if (baseline := run.baseline(CLINICAL)) is not None:
        clinical = baseline[run.repeat.to_numpy() == 0]
        curves[LEGEND] = _net_benefit(clinical, choices, BALANCED)
    weight_intercept = float(logit(prevalence) - logit(trained))
    return {
        "reliability": reliability_chart(bins),
        "bins": len(bins),
        "repeats": run.repeat.nunique(),
        "brier": run_scores(run)["brier"],
        "slope": calibration_slope(*patients)._asdict(),
        "intercept": calibration_intercept(*patients)._asdict(),
        "recalibrated": recalibrated(rows, run.config["data"]["folds"]),
        "target_prevalence": choices.prevalence,
        "cohort_prevalence": prevalence,
        "training_prevalence": trained,
        "weight_intercept": None if trained == prevalence else weight_intercept,
        "decision": decision_chart(curves["this run"], curves.get(LEGEND)),
    }


def recalibrated(rows: pd.DataFrame, folds: int) -> list[tuple[str, dict, dict, dict]]:
    """Name, slope, intercept, Brier score as trained and by scaler; empty without both classes."""
    try:
        scaled = {name: recalibrate(rows, folds, method) for name, method in SCALERS.items()}
    except ValueError:
        return []
    results = []
    for name, table in ({"as trained": rows} | scaled).items():
        patients = table["label"], table["probability"].astype(float)
        fitted = calibration_slope(*patients)._asdict(), calibration_intercept(*patients)._asdict()
        results.append((name, *fitted, pool(table, folds, ["brier"])["brier"]))
    return results


def training_prevalence(run: Run, cohort: float) -> float:
    """The prevalence that the probabilities assume: the cohort's, or as weighted by the loss."""
    weight = (run.config.get("loss") or {}).get("pos_weight")
    if weight == "balanced":
        return BALANCED
    return weighted_prevalence(cohort, weight) if isinstance(weight, int | float) else cohort


def _net_benefit(rows: pd.DataFrame, choices: Choices, trained: float) -> pd.DataFrame:
    """The decision curve, of probabilities moved from the training prevalence to the curve's."""
    label, probability = rows["label"], rows["probability"].to_numpy(float)
    target = float((label == 1).mean()) if choices.prevalence is None else choices.prevalence
    if trained != target:
        probability = shift_prevalence(probability, trained, target)
    return decision_curve(label, probability, choices.prevalence)


def reliability_chart(bins: pd.DataFrame) -> Chart:
    """`bins` has the columns n, probability, observed, low, high."""
    tooltips = [
        f"predicted {row.probability:.2f}, observed {row.observed:.2f} "
        f"[{row.low:.2f}, {row.high:.2f}], {row.n:.0f} patients"
        for row in bins.itertuples()
    ]
    limits = list(zip(bins["low"].tolist(), bins["high"].tolist(), strict=True))
    return Chart(
        "Share of tumoral patients by predicted probability, with 95 % intervals",
        share_axis("mean predicted probability"), share_axis("share of tumoral patients"),
        [
            Series("perfect calibration", [0, 1], [0, 1], "muted", "dash", width=1.2),
            Series("this run", bins["probability"].tolist(), bins["observed"].tolist(), "ink",
                   None, "dot", y_interval=limits, tooltips=tooltips),
        ],
        width=420, height=400, left=34,
    )  # fmt: skip


def decision_chart(curve: pd.DataFrame, clinical: pd.DataFrame | None = None) -> Chart:
    """`curve` has the columns threshold, net_benefit, low, high, all, none; so has `clinical`."""
    x = curve["threshold"].tolist()
    rows: list[dict[str, Any]] = curve.to_dict("records")  # type: ignore[assignment]
    tooltips = [
        f"threshold {row['threshold']:.2f}: net benefit "
        f"{format_estimate(row | {'value': row['net_benefit']})}, testing everyone "
        f"{format_score(row['all'])}"
        for row in rows
    ]
    baseline = [] if clinical is None else clinical["net_benefit"].tolist()
    lowest = float(np.nanmin([0.0, *curve["net_benefit"], *curve["low"], *baseline]))
    shown = curve[curve["all"] >= lowest]  # the line of testing everyone falls far below
    series = [
        Series("test no one", x, curve["none"].tolist(), "muted", "dash", in_legend=True),
        Series("test everyone", shown["threshold"].tolist(), shown["all"].tolist(), in_legend=True),
    ]
    if baseline:
        series.append(Series(LEGEND, x, baseline, "ink", "dash", in_legend=True))
    for limit in ("low", "high"):
        series.append(Series("", x, curve[limit].tolist(), "accent", "dot", width=1.2))
    series.append(
        Series("this run", x, curve["net_benefit"].tolist(), "accent", width=2.2,
               tooltips=tooltips, in_legend=True)
    )  # fmt: skip
    return Chart(
        "Net benefit of testing patients above a threshold, all patients, and none",
        number_axis("threshold probability", 0, max(x)),
        number_axis("net benefit", lowest, float(curve[["high", "all"]].max().max())),
        series, width=420, height=400, left=40,
    )  # fmt: skip
