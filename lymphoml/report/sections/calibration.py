"""Whether a probability of 0.8 means eight in ten."""

from typing import Any

import numpy as np
import pandas as pd

from lymphoml.evaluation.intervals import wilson
from lymphoml.report.chart import Chart, Series, share_axis, value_axis
from lymphoml.report.choices import Choices
from lymphoml.report.runs import Run
from lymphoml.report.scores import run_scores

TITLE = "Calibration and decision"
BINS = 10


def content(run: Run, choices: Choices) -> dict[str, Any]:
    bins = reliability_bins(run.predictions, run.repeat.nunique())
    return {
        "reliability": _chart(bins),
        "bins": len(bins),
        "brier": (run_scores(run) or {}).get("brier"),
        "decision": None,  # decision_chart(...), once lymphoml.evaluation.decision is there
        "fitted": {},  # slope and intercept, each with value, low and high, likewise
    }


def reliability_bins(predictions: pd.DataFrame, repeats: int = 1) -> pd.DataFrame:
    """Equal-count bins: `n` patients, `mean` probability, `share` tumoral, Wilson `low`, `high`.

    At most 10, and none of fewer than 5 patients but where there are not as many. With repeats a
    patient counts as one: `n` is the rows' number over that of repeats.
    """
    rows = predictions.sort_values("probability", kind="stable")
    number = int(np.clip(len(rows) / repeats // 5, 1, BINS))
    table = []
    for place in np.array_split(np.arange(len(rows)), number):
        part = rows.iloc[place]
        n, share = len(part) / repeats, float((part["label"] == 1).mean())
        limits = wilson(share * n, n)  # type: ignore[arg-type]
        table.append([n, float(part["probability"].mean()), share, *limits])
    return pd.DataFrame(table, columns=["n", "mean", "share", "low", "high"])


def _chart(bins: pd.DataFrame) -> Chart:
    told = [
        f"predicted {row.mean:.2f}, tumoral {row.share:.2f} ({row.low:.2f} to {row.high:.2f}), "
        f"{row.n:.0f} patients"
        for row in bins.itertuples()
    ]
    return Chart(
        "reliability", "Share of tumoral patients by predicted probability, with 95 % intervals",
        share_axis("mean predicted probability"), share_axis("share of tumoral patients"),
        [
            Series("perfect calibration", [0, 1], [0, 1], "muted", "dash", width=1.2),
            Series("this run", list(bins["mean"]), list(bins["share"]), "ink", None, "dot",
                   y_interval=list(zip(bins["low"], bins["high"], strict=True)), told=told),
        ],
        width=420, height=400, left=34,
    )  # fmt: skip


def decision_chart(curve: pd.DataFrame) -> Chart:
    """Columns threshold, net_benefit, low, high, all, none: a row a threshold."""
    x = curve["threshold"].tolist()
    told = [
        f"threshold {row['threshold']:.2f}: net benefit {row['net_benefit']:.3f} "
        f"({row['low']:.3f} to {row['high']:.3f}), tests for all {row['all']:.3f}"
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
