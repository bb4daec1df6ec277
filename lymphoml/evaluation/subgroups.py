"""Sensitivity and specificity in parts of the cohort, where there are patients enough to say."""

from typing import Any

import pandas as pd

from lymphoml.evaluation.estimate import proportion
from lymphoml.evaluation.metrics import THRESHOLD

FEWEST = 10  # patients of a class, below which its rate is not estimable


def subgroups(predictions: pd.DataFrame, groups: pd.DataFrame) -> list[dict[str, Any]]:
    """A row for each value of each column of `groups`, which is indexed by patient.

    Of a patient's repeats the rate of right calls counts. A rate is None under FEWEST patients of
    its class; else value, low and high of Wilson's 95 % interval.
    """
    right = (predictions["probability"] > THRESHOLD) == predictions["label"]
    patients = pd.DataFrame(
        {"patient": predictions["patient"], "label": predictions["label"], "right": right}
    )
    patients = patients.groupby("patient").mean().join(groups)
    return [
        {"by": by, "group": str(value)} | _rates(rows)
        for by in groups.columns
        for value, rows in patients.groupby(by, sort=True)
    ]


def _rates(rows: pd.DataFrame) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for label, name, rate in ((1, "n_tumoral", "sensitivity"), (0, "n_reactive", "specificity")):
        right = rows["right"][rows["label"] == label]
        found[name] = n = len(right)
        found[rate] = None
        if n >= FEWEST:
            found[rate] = proportion(float(right.sum()), n)._asdict()
    return found
