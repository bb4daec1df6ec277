"""Patients to predict, held against those that each model was trained on."""

from collections.abc import Collection, Iterator, Mapping
from math import log10
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.data.training_range import IMAGE, Ranges, fit_ranges, join_reasons, outside_ranges

MIN_PATIENTS = 10  # from which a median is compared; a single patient's value by range only
OTHER_UNITS = {12.0: "months for years", 365.25: "days for years"}
MISSING_MORE = 1 / 3  # of the patients


class CohortShift:
    """What differs between a table of patients and the training patients of each fold's model."""

    def __init__(self) -> None:
        self._inputs: dict[Any, pd.Series] = {}
        self._ranges: list[Ranges] = []
        self._reasons: list[tuple[int, pd.DataFrame]] = []  # fold; several of an ensemble's members

    def add(self, fold: int, inputs: pd.DataFrame, ranges: Ranges) -> None:
        """Add the model of a fold: `inputs` of the patients to predict, `ranges` of the trained.

        Raises InputError for ranges of other columns.
        """
        for name, known in ranges.items():
            if name not in inputs or ("low" in known) != (inputs[name].dtype == "float64"):
                raise InputError(f"fold {fold}: its checkpoint has ranges of other columns")
        self._reasons.append((fold, outside_ranges(inputs, ranges)))
        self._inputs.update(inputs.items())
        self._ranges.append(ranges)

    def table(self, birth_dates: Collection[str]) -> list[dict[str, Any]]:
        """Return for each column of numbers what the patients have, and the folds' training ones.

        outside, missing, missing_training   patients out of a fold's range; shares without a value
        quantiles, quantiles_training        of SHARES (mean over folds), in years of birth dates
        shift                                of the median, in half the distance of the outer ones
        """
        rows = []
        new = fit_ranges(pd.DataFrame(self._inputs), birth_dates)
        for name, values in self._inputs.items():
            known = [each[name] for each in self._ranges if "low" in each.get(name, {})]
            if known:
                outside = [each[name] != "" for _, each in self._reasons if name in each]
                low, middle, high = np.mean([each["quantiles"] for each in known], axis=0).tolist()
                found = new.get(name, {}).get("quantiles")
                moved = 2 * (found[1] - middle) / (high - low) if found and high > low else None
                rows.append({
                    "column": name, "outside": int(np.any(outside, axis=0).sum()),
                    "missing": float(values.isna().mean()),
                    "missing_training": float(np.mean([each["missing"] for each in known])),
                    "quantiles": found, "quantiles_training": [low, middle, high], "shift": moved,
                })  # fmt: skip
        return rows

    def outside(self, probabilities: pd.DataFrame) -> pd.DataFrame:
        """Return why each patient (row) lies outside the range of each fold (column) that predicts.

        "" where it does not, and where `probabilities` is NaN: that model does not predict it.
        """
        found = pd.DataFrame("", probabilities.index, probabilities.columns, dtype="str")
        for fold, each in self._reasons:
            pairs = zip(found[fold], join_reasons(each), strict=True)
            found[fold] = [max(sorted(pair), key=len) for pair in pairs]  # in any order of members
        return found.where(probabilities.notna(), "")

    def report(self, probabilities: pd.DataFrame, strict: bool) -> None:
        """Print what a person should look at, a line each; where `strict`, raise InputError."""
        lines: list[str] = []
        for name in dict.fromkeys(name for ranges in self._ranges for name in ranges):
            reasons = pd.concat(
                each.loc[probabilities[fold].notna(), name]
                for fold, each in self._reasons
                if name in each
            )
            known = [ranges[name] for ranges in self._ranges if name in ranges]
            lines += _compare(name, self._inputs[name], reasons[reasons != ""], known)
        if lines and strict:
            advice = "strict=true refuses these patients: check their table, or predict without it"
            raise InputError([*lines, advice])
        for line in lines:
            print(f"unlike the training patients: {line}")


def _compare(
    name: str, values: pd.Series, outside: pd.Series, known: list[Mapping[str, Any]]
) -> Iterator[str]:
    n, numeric = len(values), "low" in known[0]
    others = outside.str.contains("=") | outside.str.endswith(" is missing")
    if patients := outside[~others].index.nunique():
        low, high = max(each["low"] for each in known), min(each["high"] for each in known)
        yield (
            f"{name}: {patients} of {n} patients outside the training range, which is {low:.4g} to "
            f"{high:.4g} in every fold"
        )
    for reason in sorted(set(outside[others])):
        patients = outside.index[outside == reason].nunique()
        yield f"{name}: {patients} of {n} patients: {reason}"
    if n < MIN_PATIENTS:
        return
    missing, usual = values.isna().mean(), np.mean([each["missing"] for each in known])
    if missing > usual + MISSING_MORE:
        yield f"{name}: missing in {missing:.0%} of {n} patients, in training in {usual:.0%}"
    if numeric and values.notna().sum() >= MIN_PATIENTS:
        quantiles = np.array([each["quantiles"] for each in known])
        low, middle, high = quantiles[:, 0].min(), quantiles[:, 1].mean(), quantiles[:, 2].max()
        if not low <= (median := float(values.median())) <= high:
            yield (
                f"{name}: median {_short(median)}, in training {_short(middle)} with two "
                f"thirds between {_short(low)} and {_short(high)}"
                + ("" if name.startswith(IMAGE) else _unit(median, low, middle, high))
            )


def _unit(median: float, low: float, middle: float, high: float) -> str:
    """Return which other unit would explain the median, if any."""
    if min(median, middle) <= 0:
        return ""
    power = round(log10(median / middle))
    if power and low <= median / 10.0**power <= high:
        what = " (as /uL for 10^9/L)" if abs(power) == 3 else ""
        verb = "divide" if power > 0 else "multiply"
        return f"; looks like another unit{what}: {verb} by {10 ** abs(power)}"
    for factor, what in OTHER_UNITS.items():
        if low <= median / factor <= high:
            return f"; looks like {what}: divide by {factor:g}"
    return ""


def _short(value: float) -> str:
    """Return two digits, or whole numbers: a median is perhaps of a single patient."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}"
