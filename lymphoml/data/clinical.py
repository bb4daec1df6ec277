"""Clinical values as the model's input: imputed, logged, scaled by the training patients."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.data.column_kinds import ColumnConfig
from lymphoml.data.columns import input_schema
from lymphoml.data.feature_store import is_constant, mean_std

NOISE = 1e-9  # of rounding, relative


@dataclass(frozen=True)
class ClinicalEncoder:
    """Turns rows of a cohort's table into float32 features of shape (patients, k).

    A number or an age is one feature, its natural logarithm where the column is declared `log`.
    A categorical column of m values is m - 1 features of 0 or 1, named `sex=M`: all zeros mean the
    first in alphabetical order. A feature that is `constant` over the rows it was fitted to is 0
    for everybody: no model can learn it. Holds only primitives, for a checkpoint.
    """

    columns: dict[str, dict[str, Any]]  # name: {"log": bool} or {"categories": sorted list}
    fill: dict[str, float | str] = field(default_factory=dict)  # what a missing value becomes
    mean: list[float] = field(default_factory=list)
    scale: list[float] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)  # names of features

    @classmethod
    def fit(
        cls, table: pd.DataFrame, columns: Mapping[str, ColumnConfig], names: Sequence[str],
        standardize: bool, missing: str,
    ) -> "ClinicalEncoder":  # fmt: skip
        """Fit `names` of `columns` to the rows. Raises InputError for one without any value."""
        schemas = {name: input_schema(columns[name]) for name in names}
        encoder = cls({n: {k: schemas[n][k] for k in schemas[n] if k != "kind"} for n in names})
        if missing == "impute":
            encoder = replace(encoder, fill={n: _typical(table[n], columns[n]) for n in names})
        features = encoder._features(table)
        same = is_constant(features, NOISE)
        encoder = replace(encoder, constant=np.array(encoder.names)[same].tolist())
        k = len(same)
        if not standardize:
            return replace(encoder, mean=[0.0] * k, scale=[1.0] * k)
        mean, scale = mean_std(features, NOISE)
        return replace(encoder, mean=mean.tolist(), scale=scale.tolist())

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each feature."""
        names: list[str] = []
        for name, column in self.columns.items():
            categories = column.get("categories")
            names += [f"{name}={each}" for each in categories[1:]] if categories else [name]
        return tuple(names)

    def transform(self, table: pd.DataFrame) -> np.ndarray:
        """Return the scaled features. Raises InputError for a missing value that has no fill."""
        features = (self._features(table) - self.mean) / self.scale
        features[:, np.isin(self.names, self.constant)] = 0
        return features.astype(np.float32)

    def number(self, name: str, value: float | str | None) -> float:
        """Return a column's value as a number: of a category its place, NaN of None."""
        if isinstance(value, str):
            return float(self.columns[name]["categories"].index(value))
        return np.nan if value is None else value

    def state(self) -> dict[str, Any]:
        return asdict(self)

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


def _typical(values: pd.Series, column: ColumnConfig) -> float | str:
    """Return the median, of ages in whole years to reveal no birth date, or the first mode."""
    if values.isna().all():
        raise InputError(f"{values.name} has no value among the training patients; leave it out")
    if values.dtype != "float64":
        return str(values.mode()[0])
    median = float(values.median())
    return float(round(median)) if column.kind == "date_of_birth" else median
