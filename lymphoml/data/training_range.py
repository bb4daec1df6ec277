"""What a fold's training patients looked like, and who lies outside of that."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.data.cohort import Cohort
from lymphoml.data.image_statistics import image_statistics
from lymphoml.data.mil_table import LAYOUT
from lymphoml.data.settings import DataConfig

IMAGE = "image "  # before the names of image statistics; no column of a cohort has a space
MARGIN = 0.25  # of their range, beyond each end: the model is not given them as numbers
SHARES = (1 / 6, 1 / 2, 5 / 6)  # quantiles: two thirds of the patients lie between
OUTWARD: tuple[Any, ...] = (np.floor, np.floor, np.round, np.ceil, np.ceil)  # low, SHARES, high

Ranges = Mapping[str, Mapping[str, Any]]


def model_inputs(cohort: Cohort, data: DataConfig, clinical: bool, images: bool) -> pd.DataFrame:
    """Return what a model depends on, a row a patient: clinical columns, statistics of images."""
    table = cohort.table[data.clinical if clinical else []]
    if images and data.layout != LAYOUT:
        table = table.join(image_statistics(cohort.images).add_prefix(IMAGE))
    return table


def fit_ranges(inputs: pd.DataFrame, birth_dates: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return by column what these patients have; primitives, for a checkpoint.

    missing              the share of patients without a value
    categories           or, of numbers:
    low, high, quantiles of SHARES; in whole years where a birth date could be computed from more
    """
    ranges: dict[str, dict[str, Any]] = {}
    for name, column in inputs.items():
        values, missing = column.dropna(), {"missing": float(column.isna().mean())}
        if values.empty:
            continue
        if values.dtype != "float64":
            ranges[str(name)] = missing | {"categories": sorted(set(values))}
            continue
        found = [values.min(), *np.quantile(values, SHARES), values.max()]
        if name in birth_dates:
            found = [outward(each) for outward, each in zip(OUTWARD, found, strict=True)]
        low, *quantiles, high = map(float, found)
        margin = MARGIN * (high - low) if str(name).startswith(IMAGE) else 0.0
        limits = {"low": low - margin, "high": high + margin}
        ranges[str(name)] = missing | limits | {"quantiles": quantiles}
    return ranges


def outside_ranges(inputs: pd.DataFrame, ranges: Ranges) -> pd.DataFrame:
    """Return for each patient and column of `ranges` why it lies outside; "" where it does not."""
    reasons = pd.DataFrame("", inputs.index, list(ranges), dtype="str")
    for name, known in ranges.items():
        values = inputs[name]
        if not known["missing"]:
            reasons.loc[values.isna(), name] = f"{name} is missing"
        if "categories" in known:
            unseen = values.notna() & ~values.isin(known["categories"])
            reasons.loc[unseen, name] = name + "=" + values[unseen] + " is not in training"
        else:
            reasons.loc[values < known["low"], name] = f"{name} below {known['low']:.4g}"
            reasons.loc[values > known["high"], name] = f"{name} above {known['high']:.4g}"
    return reasons


def join_reasons(reasons: pd.DataFrame) -> pd.Series:
    """Return the reasons of each patient in one text."""
    rows = reasons.itertuples(index=False, name=None)
    return pd.Series(["; ".join(filter(None, row)) for row in rows], reasons.index, dtype="str")
