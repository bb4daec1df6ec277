"""How a page writes numbers, paths and counts."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import pandas as pd

from lymphoml.core.privacy import leaves_project

Score = Mapping[str, float | None]

TITLES = {
    "balanced_accuracy": "Balanced accuracy",
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "auroc": "AUROC",
    "specificity_at_95": "Specificity at sensitivity 0.95",
    "average_precision": "Average precision",
    "f1": "F1",
    "matthews": "Matthews correlation",
    "brier": "Brier score",
}
BASELINES = {
    "logistic_regression": "logistic regression",
    "random_forest": "random forest",
    "morphology": "morphology, stacked",
    "random_features": "untrained net, stacked",
    "count_rule": "one value's threshold",
    "bag_size": "number of images",
    "prevalence": "prevalence",
}


def score(value: float | None) -> str:
    """With a true minus sign."""
    return "n/a" if value is None or pd.isna(value) else f"{value:.3f}".replace("-", "−")


def interval(given: Score) -> str:
    """`0.812 to 0.930`, or that there is none."""
    low, high = given.get("low"), given.get("high")
    if low is None or high is None or pd.isna(low) or pd.isna(high):
        return "no interval"
    return f"{score(low)} to {score(high)}"


def signed(value: float | None) -> str:
    """With its sign, also a plus."""
    if value is None or pd.isna(value):
        return "n/a"
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", "−")


def baseline_name(key: str) -> str:
    return BASELINES.get(key, key.replace("_", " "))


def shown(value: Any) -> str:
    """A setting's value as text; of a path that leads out of the project only the last part."""
    if isinstance(value, str) and leaves_project(value):
        return f".../{PurePath(value).name}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
