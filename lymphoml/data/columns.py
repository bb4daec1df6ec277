"""What a declared clinical column may be: how its cells are checked and what they become.

Cells come as strings. In an error message, `{value}` stands for the cell at fault. A birth date's
is never quoted: what is no date as declared may be one all the same.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
import pandera.pandas as pa

from lymphoml.core.errors import InputError
from lymphoml.core.privacy import hide_dates
from lymphoml.core.untrusted import is_safe_text

NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
OLDEST = 120  # years


@dataclass(frozen=True)
class Numeric:
    """A count or a measurement; `log` asks for its natural logarithm at the model's input."""

    name: str
    column: str
    log: bool = False
    positive: bool = False

    def checks(self) -> Iterator[pa.Check]:
        yield pa.Check(
            lambda text: self.parse(text).notna(),
            error="{value} is not a number; write digits with a decimal point, without unit",
        )
        yield pa.Check(  # else the audit would tell a birth date as the column's highest value
            lambda text: self.parse(text).isna() | (text.map(hide_dates) == text),
            error="is written like a date; correct it",
        )
        if self.positive or self.log:
            yield pa.Check(
                lambda text: ~(self.parse(text) <= 0),
                error="{value} is not above 0; correct it",
            )

    def parse(self, text: pd.Series) -> pd.Series:
        """float64, nan where the text is no number or one too large for float32."""
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

    def checks(self) -> Iterator[pa.Check]:
        allowed = ", ".join(self.values)
        yield pa.Check(
            lambda text: text.isin(list(self.values)),
            error=f"{{value}} is none of {allowed}; "
            f"correct it, or add it to data.columns.{self.name}.values",
        )

    def parse(self, text: pd.Series) -> pd.Series:
        return text.map(self.values).astype("str")  # of missing values alone, too

    def schema(self) -> dict:
        return {"kind": "categorical", "categories": sorted(set(self.values.values()))}


@dataclass(frozen=True)
class DateOfBirth:
    """A birth date, kept only as the age at a fixed date: today's would drift with the calendar.

    The separator that a cell contains decides on its format. Inference would read 3/4 and 4/3
    whichever way raises no error.
    """

    name: str
    column: str
    formats: dict[str, str]  # separator: format of strptime
    reference: datetime

    def checks(self) -> Iterator[pa.Check]:
        separators = " ".join(self.formats)
        formats = " ".join(self.formats.values())
        day = f"{self.reference:%Y-%m-%d}"
        yield pa.Check(
            lambda text: text.map(lambda cell: self._format(cell) is not None).astype(bool),
            error=f"does not contain exactly one of the separators {separators}; "
            "correct it, or extend data.date_formats",
        )
        yield pa.Check(
            lambda text: self.parse(text).notna() | text.map(self._format).isna(),
            error=f"is not a date of the form {formats}; correct it",
        )
        yield pa.Check(
            lambda text: ~(self.parse(text) < 0),
            error=f"lies after data.reference_date {day}; correct it",
        )
        yield pa.Check(
            lambda text: ~(self.parse(text) > OLDEST),
            error=f"makes the patient older than {OLDEST} on {day}; correct it",
        )

    def parse(self, text: pd.Series) -> pd.Series:
        """Years at the reference date, nan where the text is no date."""
        return text.map(self._age, na_action="ignore").astype("float64")

    def separator(self, text: pd.Series) -> pd.Series:
        """The separator that decided on each cell's format; None where the cell is missing."""
        return text.map(lambda cell: next(s for s in self.formats if s in cell), na_action="ignore")

    def ambiguous(self, text: pd.Series) -> pd.Series:
        """Whether each date's day and month, swapped, are another date; False where missing."""
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


# From the configuration of a cohort to its declared columns, refusing what cannot be meant.

LAYOUTS = ("kaggle", "table", "mil_table")
POLICIES = ("error", "impute")
LABELS = (1, 0, -1)
RESERVED = ("id", "label", "group", "place", "patient", "hard", "right", "acquisition_half")
DAY = "%Y-%m-%d"
KEYS = {  # kind: what may stand beside `kind` and `column`
    "numeric": {"log", "positive"},
    "categorical": {"values"},
    "date_of_birth": set(),
}


def declare_columns(data: dict) -> list[Column]:
    """The clinical columns, in the order declared; raises InputError for all that is wrong."""
    problems = [*_setting_problems(data)]
    for name, spec in data["columns"].items():
        problems += (f"data.columns.{name}{problem}" for problem in _column_problems(spec, data))
    if problems:
        raise InputError(problems)
    return [_declare(name, spec, data) for name, spec in data["columns"].items()]


def _declare(name: str, spec: dict, data: dict) -> Column:
    if spec["kind"] == "numeric":
        return Numeric(name, spec["column"], spec.get("log", False), spec.get("positive", False))
    if spec["kind"] == "categorical":
        values = {str(cell): str(category) for cell, category in spec["values"].items()}
        return Categorical(name, spec["column"], values)
    reference = datetime.strptime(data["reference_date"], DAY)
    return DateOfBirth(name, spec["column"], data["date_formats"], reference)


def _setting_problems(data: dict) -> Iterator[str]:
    if data["layout"] not in LAYOUTS:
        yield f"data.layout {data['layout']!r}: choose one of {', '.join(LAYOUTS)}"
    if data["missing"] not in POLICIES:
        yield f"data.missing {data['missing']!r}: choose {' or '.join(POLICIES)}"
    if "/" in data["image_pattern"]:
        yield f"data.image_pattern {data['image_pattern']!r}: a file name, without folder"
    for cell, label in data["label_values"].items():
        if isinstance(label, bool) or label not in LABELS:
            yield f"data.label_values {cell!r}: {label!r} must be 1 (tumoral), 0 or -1 (unknown)"
    for name in data["clinical"]:
        if name not in data["columns"]:
            known = ", ".join(data["columns"]) or "none"
            yield f"data.clinical: no column {name} is declared in data.columns; there is {known}"
    yield from _stratum_problems(data)
    if not re.fullmatch(r"(?!\.)[\w .-]+", data["name"]) or not is_safe_text(data["name"]):
        yield f"data.name {data['name']!r}: letters, digits, space, _ . and - only"
    for name in data["columns"]:
        if not (isinstance(name, str) and name.isascii() and name.isidentifier()):
            yield f"data.columns.{name}: call it by letters, digits and _, as lymphocyte_count"
    for name in RESERVED:
        if name in data["columns"]:
            yield f"data.columns.{name}: the name is taken; choose another"
    if not _is_day(data["reference_date"]):
        yield f"data.reference_date {data['reference_date']!r}: not a date; write YYYY-MM-DD"
    for separator, form in data["date_formats"].items():
        if not _is_unambiguous(separator, form):
            yield (
                f"data.date_formats {separator!r}: {form!r} must contain the separator, a day, "
                "a month and a year of four digits, such as '%d-%m-%Y'"
            )


def _column_problems(spec: object, data: dict) -> Iterator[str]:
    if not isinstance(spec, dict) or not isinstance(kind := spec.get("kind"), str):
        yield f": needs a kind; choose {', '.join(KEYS)}"
        return
    if kind not in KEYS:
        yield f".kind {kind!r}: no such kind; choose {', '.join(KEYS)}"
        return
    allowed = {"kind", "column"} | KEYS[kind]
    for key in spec.keys() - allowed:
        yield f".{key}: no such key; {kind} takes {', '.join(sorted(allowed))}"
    if not isinstance(spec.get("column"), str):
        yield ".column: name the table's column, as a string"
    elif spec["column"] in (data["id_column"], data["label_column"]):
        yield f".column {spec['column']}: the patient's id and label must not reach the model"
    for key in ("log", "positive"):
        if not isinstance(spec.get(key, False), bool):
            yield f".{key} {spec[key]!r}: choose true or false"
    if kind == "date_of_birth" and not data["date_formats"]:
        yield ": needs data.date_formats, such as {'-': '%d-%m-%Y'}"
    if kind == "categorical":
        values = spec.get("values")
        if not isinstance(values, dict) or not values:
            yield ".values: list each value of the table with its category, such as {F: F, f: F}"
        elif not all(type(each) in (str, int) for pair in values.items() for each in pair):
            yield ".values: quote what YAML does not read as text, such as 'yes', 'no' and 'null'"
        elif not all(is_safe_text(str(category)) for category in values.values()):
            yield ".values: a category must not begin with = + - @, and can be seen"


def _stratum_problems(data: dict) -> Iterator[str]:
    stratum = data["hard_stratum"]
    if stratum is None:
        return
    numeric = [
        name
        for name, spec in data["columns"].items()
        if isinstance(spec, dict) and spec.get("kind") == "numeric"
    ]
    if set(stratum) != {"column", "max"}:
        yield f"data.hard_stratum: {stratum}; give column and max, or null"
    elif stratum["column"] not in numeric:
        known = ", ".join(numeric) or "none"
        yield (
            f"data.hard_stratum.column {stratum['column']!r}: not a numeric column of "
            f"data.columns; there is {known}"
        )
    elif isinstance(stratum["max"], bool) or not isinstance(stratum["max"], int | float):
        yield f"data.hard_stratum.max {stratum['max']!r}: give a number"


def _is_day(text: str) -> bool:
    try:
        return bool(datetime.strptime(text, DAY))
    except ValueError:
        return False


def _is_unambiguous(separator: str, form: str) -> bool:
    """Whether a date survives being written and read; with a year of two digits, 1931 does not."""
    day = datetime(1931, 12, 28)
    try:
        text = day.strftime(form)
        return separator != "" and separator in text and datetime.strptime(text, form) == day
    except ValueError:
        return False
