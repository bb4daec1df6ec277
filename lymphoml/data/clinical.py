"""Clinical values as the model's input: imputed, logged, scaled by what the training rows hold."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError


@dataclass(frozen=True)
class ClinicalEncoder:
    """Turns rows of a cohort's table into float32 features of shape (patients, k).

    A number or an age is one feature, its natural logarithm where the column is declared `log`.
    A categorical of m values is m - 1 features of 0 or 1, named `sex=M`: the first in alphabetical
    order is the one that all zeros stand for. Holds nothing but primitives, so that `state` can
    travel in a checkpoint.
    """

    columns: dict[str, dict[str, Any]]  # name: {"log": bool} or {"categories": sorted list}
    fill: dict[str, float | str] = field(default_factory=dict)  # what a missing value becomes
    mean: list[float] = field(default_factory=list)
    scale: list[float] = field(default_factory=list)

    @classmethod
    def fit(
        cls,
        table: pd.DataFrame,
        columns: dict[str, dict[str, Any]],
        names: Sequence[str],
        standardize: bool,
        missing: str,
    ) -> "ClinicalEncoder":
        """Learns medians, most frequent categories, means and deviations from the rows given.

        `columns` are the declarations of the configuration's `data.columns`, of which `names` are
        used, in this order. With `missing="impute"` raises InputError for a column without value.
        """
        encoder = cls({name: _declared(columns[name]) for name in names})
        if missing == "impute":
            encoder = replace(encoder, fill={n: _typical(table[n], columns[n]) for n in names})
        k = len(encoder.names)
        if not standardize:
            return replace(encoder, mean=[0.0] * k, scale=[1.0] * k)
        features = encoder._features(table)
        # A constant's deviation is rounding noise; dividing by it would blow up other patients.
        constant = np.ptp(features, axis=0) <= 1e-9 * np.abs(features).max(axis=0, initial=0)
        scale = np.where(constant, 1.0, features.std(axis=0))
        return replace(encoder, mean=features.mean(axis=0).tolist(), scale=scale.tolist())

    @property
    def names(self) -> tuple[str, ...]:
        """One for each feature."""
        return tuple(
            feature
            for name, column in self.columns.items()
            for feature in (
                [f"{name}={category}" for category in column["categories"][1:]]
                if "categories" in column
                else [name]
            )
        )

    def transform(self, table: pd.DataFrame) -> np.ndarray:
        """Raises InputError for a missing value where training had none to learn from."""
        return ((self._features(table) - self.mean) / self.scale).astype(np.float32)

    def state(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "ClinicalEncoder":
        return cls(**state)

    def _features(self, table: pd.DataFrame) -> np.ndarray:
        features = np.empty((len(table), 0))
        for name, column in self.columns.items():
            values = table[name].fillna(self.fill[name]) if name in self.fill else table[name]
            if values.isna().any():
                raise InputError(
                    f"patient {patient}: {name} is missing, which data.missing=error of the run "
                    "does not allow; fill it in, or train with data.missing=impute"
                    for patient in values.index[values.isna()]
                )
            if "categories" in column:
                part = values.to_numpy(object)[:, None] == np.array(column["categories"][1:], "O")
            else:
                part = values.to_numpy(float)[:, None]
                part = np.log(part) if column["log"] else part
            features = np.hstack([features, part])
        return features


def _declared(column: dict[str, Any]) -> dict[str, Any]:
    if column["kind"] == "categorical":
        return {"categories": sorted({str(category) for category in column["values"].values()})}
    return {"log": column.get("log", False)}


def _typical(values: pd.Series, column: dict[str, Any]) -> float | str:
    """The median, or the most frequent category, of equals the first in alphabetical order.

    An age in whole years: the median is one patient's, travels in checkpoints, and would tell a
    birth date.
    """
    if values.isna().all():
        raise InputError(f"{values.name} has no value among the training patients; leave it out")
    if values.dtype != "float64":
        return str(values.mode()[0])
    median = float(values.median())
    return float(round(median)) if column["kind"] == "date_of_birth" else median
