"""Format scores, intervals, p-values, settings and names, for the terminal and the page alike."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import pandas as pd
from rich.console import Console

from lymphoml.core.privacy import leaves_project

Score = Mapping[str, Any]  # value, low, high; each a number or None

TITLES = {
    "balanced_accuracy": "Balanced accuracy", "accuracy": "Accuracy",
    "sensitivity": "Sensitivity", "specificity": "Specificity",
    "auroc": "AUROC", "specificity_at_95": "Specificity at 95 % sensitivity",
    "average_precision": "Average precision", "f1": "F1",
    "matthews": "Matthews correlation", "brier": "Brier score",
}  # fmt: skip
BASELINES = {
    "logistic_regression": "logistic regression", "random_forest": "random forest",
    "morphology": "morphology, stacked", "random_features": "untrained network, stacked",
    "count_rule": "one value's threshold", "bag_size": "number of images",
    "prevalence": "prevalence",
}  # fmt: skip


def format_score(value: float | None, signed: bool = False) -> str:
    """`0.812`, with a true minus sign; `n/a` where undefined."""
    if _undefined(value):
        return "n/a"
    text = f"{value:+.3f}" if signed else f"{value:.3f}"
    return "0.000" if signed and float(text) == 0 else text.replace("-", "−")


def format_interval(score: Score, signed: bool = False) -> str:
    """`[0.812, 0.930]`."""
    low, high = score.get("low"), score.get("high")
    if _undefined(low) or _undefined(high):
        return "(no interval)"
    return f"[{format_score(low, signed)}, {format_score(high, signed)}]"


def format_estimate(score: Score | None, signed: bool = False) -> str:
    """`0.874 [0.812, 0.930]`."""
    if not score or _undefined(score.get("value")):
        return "n/a"
    return f"{format_score(score['value'], signed)} {format_interval(score, signed)}"


def format_p(p: float | None) -> str:
    if _undefined(p):
        return ""
    return "< 0.001" if float(str(p)) < 0.001 else f"{p:.3f}"


def format_setting(value: Any) -> str:
    """The value of a setting; of a path out of the project only the last part."""
    if isinstance(value, str) and leaves_project(value):
        return f".../{PurePath(value).name}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def format_count(number: int, noun: str) -> str:
    """`1 patient`, `1,234 patients`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def format_duration(seconds: float) -> str:
    """`1 min`, `1 h 05 min`; at least a minute."""
    hours, minutes = divmod(max(1, round(seconds / 60)), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def baseline_title(name: str, config: Mapping[str, Any] | None = None) -> str:
    """The title of a column of baselines.csv; a count rule is named by the run's own column."""
    stratum = config and config["data"].get("hard_stratum")
    if name == "count_rule" and stratum:
        return f"{stratum['column'].replace('_', ' ')} rule"
    return BASELINES.get(name, name.replace("_", " "))


def describe_hard_stratum(config: Mapping[str, Any], highest: float | None) -> str:
    """`lymphocyte count at most 8`."""
    column = (config["data"].get("hard_stratum") or {}).get("column", "the declared column")
    limit = "the declared value" if highest is None else format(highest, "g")
    return f"{column.replace('_', ' ')} at most {limit}"


def wide_console() -> Console:
    """Of the terminal; wide enough for tables where the output is none."""
    console = Console(soft_wrap=True)
    if not console.is_terminal:
        console.width = 130
    return console


def _undefined(value: float | None) -> bool:
    return value is None or bool(pd.isna(value))
