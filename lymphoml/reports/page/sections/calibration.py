"""Calibration of the probabilities, and the net benefit of acting on them."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit

from lymphoml.evaluation.calibration import (
    calibration_intercept,
    calibration_slope,
    recalibrate,
    reliability_bins,
)
from lymphoml.evaluation.decision_curve import decision_curve, shift_prevalence, weighted_prevalence
from lymphoml.evaluation.pooled import pool
from lymphoml.reports.format import format_estimate, format_score
from lymphoml.reports.page.chart import Chart, Series, number_axis, share_axis
from lymphoml.reports.page.sections import Choices
from lymphoml.reports.results import run_scores
from lymphoml.runs.finished_run import Run

TITLE = "Calibration and decision"
CLINICAL, LEGEND = "logistic_regression", "clinical values alone (logistic regression)"
SCALERS = {"Platt scaling": "platt", "temperature scaling": "temperature"}
MAX_BINS, MIN_BIN_SIZE = 10, 5
BALANCED = 0.5  # prevalence that equally weighted classes correspond to


def content(run: Run, choices: Choices) -> dict[str, Any]:
    """Of the first repeat: a mean over repeats is an ensemble, not a trained model."""
    rows = run.predictions[run.repeat == 0]
    prevalence = float((rows["label"] == 1).mean())
    trained = training_prevalence(run, prevalence)
    patients = rows["label"], rows["probability"].astype(float)
    bins = reliability_bins(*patients, bins=int(np.clip(len(rows) // MIN_BIN_SIZE, 1, MAX_BINS)))
    baseline = run.baseline(CLINICAL)
    clinical = None if baseline is None else baseline[run.repeat.to_numpy() == 0]
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
        "weight_intercept": float(logit(prevalence) - logit(trained))
        if trained != prevalence
        else None,
        "decision": decision_chart(
            _net_benefit(rows, choices, trained),
            None if clinical is None else _net_benefit(clinical, choices, BALANCED),
        ),
    }


def recalibrated(rows: pd.DataFrame, folds: int) -> list[tuple[str, dict, dict, dict]]:
    """As trained and by each scaler: name, slope, intercept and Brier score, of one repeat.

    Empty where the other folds of one lack a class.
    """
    try:
        scaled = {name: recalibrate(rows, folds, method) for name, method in SCALERS.items()}
    except ValueError:
        return []
    return [
        (
            name,
            calibration_slope(table["label"], table["probability"].astype(float))._asdict(),
            calibration_intercept(table["label"], table["probability"].astype(float))._asdict(),
            pool(table, folds, ["brier"])["brier"],
        )
        for name, table in ({"as trained": rows} | scaled).items()
    ]


def training_prevalence(run: Run, cohort: float) -> float:
    """The prevalence that the run's probabilities assume: the cohort's, or as weighted by the loss.

    An ensemble's configuration, and so its weight, is its first member's.
    """
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
        f"predicted {row['probability']:.2f}, observed {row['observed']:.2f} "
        f"[{row['low']:.2f}, {row['high']:.2f}], {row['n']:.0f} patients"
        for row in bins.to_dict("records")
    ]
    limits = list(zip(bins["low"].tolist(), bins["high"].tolist(), strict=True))
    return Chart(
        "reliability", "Share of tumoral patients by predicted probability, with 95 % intervals",
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
    lowest = min(0.0, float(curve["net_benefit"].min()), float(curve["low"].min()))
    baseline = []
    if clinical is not None:
        y = clinical["net_benefit"].tolist()
        lowest = min(lowest, *y)
        baseline = [Series(LEGEND, x, y, "ink", "dash", in_legend=True)]
    shown = curve[curve["all"] >= lowest]  # the line of testing everyone falls far below
    limits = [
        Series("", x, curve[limit].tolist(), "accent", "dot", width=1.2)
        for limit in ("low", "high")
    ]
    return Chart(
        "decision", "Net benefit of testing patients above a threshold, all patients, and none",
        number_axis("threshold probability", 0, max(x)),
        number_axis("net benefit", lowest, float(curve[["high", "all"]].max().max())),
        [
            Series("test no one", x, curve["none"].tolist(), "muted", "dash", in_legend=True),
            Series("test everyone", shown["threshold"].tolist(), shown["all"].tolist(), "ink",
                   in_legend=True),
            *baseline,
            *limits,
            Series("this run", x, curve["net_benefit"].tolist(), "accent", width=2.2,
                   tooltips=tooltips, in_legend=True),
        ],
        width=420, height=400, left=40,
    )  # fmt: skip
