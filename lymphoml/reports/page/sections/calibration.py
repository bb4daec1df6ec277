"""Whether a probability of 0.8 means eight in ten, and what acting on it is worth."""

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
from lymphoml.reports.page.chart import Chart, Series, share_axis, value_axis
from lymphoml.reports.page.choices import Choices
from lymphoml.reports.page.optional import read_baseline
from lymphoml.reports.page.scores import run_scores
from lymphoml.reports.page.wording import interval, score
from lymphoml.runs.finished_run import Run

TITLE = "Calibration and decision"
CLINICAL, LEGEND = "logistic_regression", "logistic regression on the clinical values"
SCALERS = {"Platt scaling": "platt", "temperature": "temperature"}
BINS, FEWEST = 10, 5  # bins, and the patients in one
BALANCED = 0.5  # the prevalence that classes weighed equally stand for


def content(run: Run, choices: Choices) -> dict[str, Any]:
    """Of repeats the first: a mean over them is an ensemble, which nobody has trained."""
    rows = run.predictions[run.repeat == 0]
    share = float((rows["label"] == 1).mean())
    trained = trained_prevalence(run, share)
    patients = rows["label"], rows["probability"].astype(float)
    number = int(np.clip(len(rows) // FEWEST, 1, BINS))
    bins = reliability_bins(*patients, bins=number)
    baseline = read_baseline(run, CLINICAL)
    clinical = None if baseline is None else baseline[run.repeat.to_numpy() == 0]
    return {
        "reliability": reliability_chart(bins),
        "bins": len(bins),
        "repeats": run.repeat.nunique(),
        "brier": (run_scores(run) or {}).get("brier"),
        "fitted": {
            "slope": calibration_slope(*patients)._asdict(),
            "intercept": calibration_intercept(*patients)._asdict(),
        },
        "recalibrated": recalibrated(rows, run.config["data"]["folds"]),
        "prevalence": choices.prevalence,
        "cohort_prevalence": share,
        "trained_prevalence": trained,
        "weighed": float(logit(share) - logit(trained)) if trained != share else None,
        "ensemble": "ensemble" in run.config,
        "clinical": clinical is not None,
        "decision": decision_chart(
            _curve(rows, choices, trained),
            None if clinical is None else _curve(clinical, choices, BALANCED),
        ),
    }


def recalibrated(rows: pd.DataFrame, folds: int) -> list[tuple[str, dict, dict, dict]]:
    """As trained and by each scaler: name; slope, intercept, Brier score with limits; one repeat.

    Empty where the other folds of one lack a class.
    """
    try:
        scaled = {name: recalibrate(rows, folds, method) for name, method in SCALERS.items()}
    except ValueError:
        return []
    told = []
    for name, table in ({"as trained": rows} | scaled).items():
        label, probability = table["label"], table["probability"].astype(float)
        told.append((
            name,
            calibration_slope(label, probability)._asdict(),
            calibration_intercept(label, probability)._asdict(),
            pool(table, folds, ["brier"])["brier"],
        ))  # fmt: skip
    return told


def trained_prevalence(run: Run, share: float) -> float:
    """What the run's probabilities are made for: the cohort's `share`, or what `pos_weight` makes.

    An ensemble's configuration, and so its weight, is its first member's.
    """
    weight = (run.config.get("loss") or {}).get("pos_weight")
    if weight == "balanced":
        return BALANCED
    return weighted_prevalence(share, weight) if isinstance(weight, int | float) else share


def _curve(rows: pd.DataFrame, choices: Choices, trained: float) -> pd.DataFrame:
    """Of probabilities moved from the prevalence `trained` to that of the curve."""
    label, probability = rows["label"], rows["probability"].to_numpy(float)
    target = float((label == 1).mean()) if choices.prevalence is None else choices.prevalence
    if trained != target:
        probability = shift_prevalence(probability, trained, target)
    return decision_curve(label, probability, choices.prevalence)


def reliability_chart(bins: pd.DataFrame) -> Chart:
    """Columns n, probability, observed, low, high: a row a bin."""
    told = [
        f"predicted {row['probability']:.2f}, tumoral {row['observed']:.2f} "
        f"({row['low']:.2f} to {row['high']:.2f}), {row['n']:.0f} patients"
        for row in bins.to_dict("records")
    ]
    limits = list(zip(bins["low"].tolist(), bins["high"].tolist(), strict=True))
    return Chart(
        "reliability", "Share of tumoral patients by predicted probability, with 95 % intervals",
        share_axis("mean predicted probability"), share_axis("share of tumoral patients"),
        [
            Series("perfect calibration", [0, 1], [0, 1], "muted", "dash", width=1.2),
            Series("this run", bins["probability"].tolist(), bins["observed"].tolist(), "ink",
                   None, "dot", y_interval=limits, told=told),
        ],
        width=420, height=400, left=34,
    )  # fmt: skip


def decision_chart(curve: pd.DataFrame, clinical: pd.DataFrame | None = None) -> Chart:
    """Columns threshold, net_benefit, low, high, all, none: a row a threshold.

    `clinical` is the like of the clinical values alone.
    """
    x = curve["threshold"].tolist()
    told = [
        f"threshold {row['threshold']:.2f}: net benefit {score(row['net_benefit'])} "
        f"({interval({'low': row['low'], 'high': row['high']})}), tests for all {score(row['all'])}"
        for row in curve.to_dict("records")
    ]
    lowest = min(0.0, float(curve["net_benefit"].min()), float(curve["low"].min()))
    beside = []
    if clinical is not None:
        lowest = min(lowest, float(clinical["net_benefit"].min()))
        beside = [
            Series(LEGEND, x, clinical["net_benefit"].tolist(), "ink", "dash", named=True,
                   told=[f"{LEGEND}, threshold {place:.2f}: net benefit {score(value)}"
                         for place, value in zip(x, clinical["net_benefit"], strict=True)])
        ]  # fmt: skip
    shown = curve["all"].where(curve["all"] >= lowest).dropna()  # it dives below what matters
    limits = [
        Series("", x, curve[limit].tolist(), "accent", "dot", width=1.2)
        for limit in ("low", "high")
    ]
    return Chart(
        "decision", "Net benefit of testing those above a threshold, all patients, and none",
        value_axis("threshold probability", 0, max(x), most=5),
        value_axis("net benefit", lowest, float(curve[["high", "all"]].max().max()), most=5),
        [
            Series("tests for none", x, curve["none"].tolist(), "muted", "dash", named=True),
            Series("tests for all", curve.loc[shown.index, "threshold"].tolist(), shown.tolist(),
                   "ink", named=True),
            *beside,
            *limits,
            Series("this run", x, curve["net_benefit"].tolist(), "accent", width=2.2, told=told,
                   named=True),
        ],
        width=420, height=400, left=40,
    )  # fmt: skip
