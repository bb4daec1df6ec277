"""Declared clinical columns: how their cells are checked and what they become.

Cells come as strings. A birth date is never quoted in a problem, nor a cell that may be one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd

from lymphoml.core.privacy import hide_dates
from lymphoml.data.settings import (
    DAY,
    CategoricalColumn,
    ColumnConfig,
    DataConfig,
    NumericColumn,
)

NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
OLDEST = 120  # years


class Check(NamedTuple):
    """What the given cells of a column must be."""

    valid: Callable[[pd.Series], pd.Series]  # from the cells' text
    what: str  # is wrong with the others
    action: str
    quoted: bool = True


@dataclass(frozen=True)
class Numeric:
    """A count or a measurement; `log` takes its natural logarithm at the model's input."""

    name: str
    column: str
    log: bool = False
    positive: bool = False

    def checks(self) -> Iterator[Check]:
        yield Check(
            lambda text: self.parse(text).notna(),
            "is not a number",
            "write digits with a decimal point, without unit",
        )
        yield Check(  # else the audit would show a birth date as the column's highest value
            lambda text: self.parse(text).isna() | (text.map(hide_dates) == text),
            "is written like a date",
            "correct it",
            quoted=False,
        )
        if self.positive or self.log:
            yield Check(lambda text: ~(self.parse(text) <= 0), "is not above 0", "correct it")

    def parse(self, text: pd.Series) -> pd.Series:
        """Return float64, NaN where the text is no number or one too large for float32."""
        numbers = text.where(text.str.fullmatch(NUMBER).astype(bool)).astype("float64")
        return numbers.where(numbers.abs() <= np.finfo(np.float32).max)

    def schema(self) -> dict:
        return {"kind": "numeric", "log": self.log}


@dataclass(frozen=True)
class Categorical:
    """One of a few values; several spellings may mean one category."""

    name: str
    column: str
    values: dict[str, str]  # as in the table: category

    def checks(self) -> Iterator[Check]:
        yield Check(
            lambda text: text.isin(list(self.values)),
            f"is none of {', '.join(self.values)}",
            f"correct it, or add it to data.columns.{self.name}.values",
        )

    def parse(self, text: pd.Series) -> pd.Series:
        return text.map(self.values).astype("str")  # of missing values alone, too

    def schema(self) -> dict:
        return {"kind": "categorical", "categories": sorted(set(self.values.values()))}


@dataclass(frozen=True)
class DateOfBirth:
    """A birth date, kept only as the age at a fixed date: today's would change with the calendar.

    The separator in a cell decides on its format. Inference would read 3/4 and 4/3 whichever way
    raises no error.
    """

    name: str
    column: str
    formats: dict[str, str]  # separator: format of strptime
    reference: datetime

    def checks(self) -> Iterator[Check]:
        day = f"{self.reference:%Y-%m-%d}"
        for valid, what, action in (
            (
                lambda text: text.map(lambda cell: self._format(cell) is not None).astype(bool),
                f"does not contain exactly one of the separators {' '.join(self.formats)}",
                "correct it, or extend data.date_formats",
            ),
            (
                lambda text: self.parse(text).notna() | text.map(self._format).isna(),
                f"is not a date of the form {' '.join(self.formats.values())}",
                "correct it",
            ),
            (
                lambda text: ~(self.parse(text) < 0),
                f"is after data.reference_date {day}",
                "correct it",
            ),
            (
                lambda text: ~(self.parse(text) > OLDEST),
                f"makes the patient older than {OLDEST} on {day}",
                "correct it",
            ),
        ):
            yield Check(valid, what, action, quoted=False)

    def parse(self, text: pd.Series) -> pd.Series:
        """Return years at the reference date, NaN where the text is no date."""
        return text.map(self._age, na_action="ignore").astype("float64")

    def separator(self, text: pd.Series) -> pd.Series:
        """Return the separator that decides on each cell's format; None where it is missing."""
        return text.map(lambda cell: next(s for s in self.formats if s in cell), na_action="ignore")

    def ambiguous(self, text: pd.Series) -> pd.Series:
        """Return whether each date's day and month, swapped, are another date; False: missing."""
        births = [None if pd.isna(cell) else self._birth(cell) for cell in text]
        swappable = [b is not None and b.day <= 12 and b.day != b.month for b in births]
        return pd.Series(swappable, index=text.index, dtype=bool)

    def schema(self) -> dict:
        return {"kind": "date_of_birth", "reference_date": f"{self.reference:%Y-%m-%d}"}

    def _format(self, cell: str) -> str | None:
        formats = [form for separator, form in self.formats.items() if separator in cell]
        return formats[0] if len(formats) == 1 else None

    def _age(self, cell: str) -> float:
        birth = self._birth(cell)
        return np.nan if birth is None else (self.reference - birth).days / 365.25

    def _birth(self, cell: str) -> datetime | None:
        if not cell.isascii():  # strptime would take the digits of every script
            return None
        try:
            return datetime.strptime(cell, self._format(cell) or "")
        except ValueError:
            return None


Column = Numeric | Categorical | DateOfBirth


def declare_columns(data: DataConfig) -> list[Column]:
    """Return the clinical columns in the order of `data.columns`."""
    return [_declare(name, spec, data) for name, spec in data.columns.items()]


def _declare(name: str, spec: ColumnConfig, data: DataConfig) -> Column:
    if isinstance(spec, NumericColumn):
        return Numeric(name, spec.column, spec.log, spec.positive)
    if isinstance(spec, CategoricalColumn):
        return Categorical(name, spec.column, spec.values)
    reference = datetime.strptime(data.reference_date, DAY)
    return DateOfBirth(name, spec.column, data.date_formats, reference)
