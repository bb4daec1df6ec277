"""Whether a probability of 0.8 means eight in ten, and what acting on it is worth."""

from typing import Any

import numpy as np
import pandas as pd

from lymphoml.evaluation.calibration import calibration_intercept, calibration_slope
from lymphoml.evaluation.decision import decision_curve
from lymphoml.evaluation.reliability import reliability_bins
from lymphoml.report.chart import Chart, Series, share_axis, value_axis
from lymphoml.report.choices import Choices
from lymphoml.report.runs import Run
from lymphoml.report.scores import run_scores
from lymphoml.report.wording import interval, score

TITLE = "Calibration and decision"
BINS, FEWEST = 10, 5  # bins, and the patients in one


def content(run: Run, choices: Choices) -> dict[str, Any]:
    """Of repeats the first: a mean over them is an ensemble, which nobody has trained."""
    rows = run.predictions[run.repeat == 0]
    patients = rows["label"], rows["probability"].astype(float)
    number = int(np.clip(len(rows) // FEWEST, 1, BINS))
    bins = reliability_bins(*patients, bins=number)
    return {
        "reliability": reliability_chart(bins),
        "bins": len(bins),
        "repeats": run.repeat.nunique(),
        "brier": (run_scores(run) or {}).get("brier"),
        "fitted": {
            "slope": calibration_slope(*patients)._asdict(),
            "intercept": calibration_intercept(*patients)._asdict(),
        },
        "decision": decision_chart(decision_curve(*patients)),
    }


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


def decision_chart(curve: pd.DataFrame) -> Chart:
    """Columns threshold, net_benefit, low, high, all, none: a row a threshold."""
    x = curve["threshold"].tolist()
    told = [
        f"threshold {row['threshold']:.2f}: net benefit {score(row['net_benefit'])} "
        f"({interval({'low': row['low'], 'high': row['high']})}), tests for all {score(row['all'])}"
        for row in curve.to_dict("records")
    ]
    lowest = min(0.0, float(curve["net_benefit"].min()), float(curve["low"].min()))
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
            *limits,
            Series("this run", x, curve["net_benefit"].tolist(), "accent", width=2.2, told=told,
                   named=True),
        ],
        width=420, height=400, left=40,
    )  # fmt: skip
