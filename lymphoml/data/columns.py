"""What a cell of a clinical table means: an id, a label, a number, a category or an age."""

import re
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.core.privacy import hide_dates
from lymphoml.core.untrusted import is_safe_text
from lymphoml.data.column_kinds import ColumnConfig, DateOfBirthColumn, NumericColumn
from lymphoml.data.settings import DAY, DataConfig

SAFE_ID = r"[A-Za-z0-9_][A-Za-z0-9_-]*"  # no formula, no option of a command
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
LONGEST = 64  # characters of a number
LARGEST = float(np.finfo(np.float32).max)
OLDEST = 120  # years
# As names of a table's columns; those of data.columns are identifiers.
PERSON, SITE = "data.person_column", "data.site_column"


class CellError(Exception):
    """Why a cell has no value, and what to do about it. It never quotes the cell."""

    def __init__(self, what: str, action: str = "correct it"):
        super().__init__(what, action)
        self.what, self.action = what, action


def read_cell(name: str, cell: str, data: DataConfig) -> float | str:
    """Return the value of a cell; NaN where it is missing and may be. Raises CellError."""
    if pd.isna(cell):
        if name == SITE:
            raise CellError("is missing", "fill it in, or set data.site_column=null")
        if data.missing == "error" and name != PERSON:
            raise CellError("is missing", "fill it in, or set data.missing=impute")
        return np.nan
    if name == "id":
        if not re.fullmatch(SAFE_ID, cell):
            action = "use letters without accents, digits, _ and - only, and do not begin with -"
            raise CellError("is not a safe id", action)
        return cell
    if name == "label":
        if cell not in data.label_values:
            labels = ", ".join(map(repr, data.label_values))
            raise CellError(f"is none of {labels}", "correct it, or add it to data.label_values")
        return data.label_values[cell]
    if name == SITE and not (is_safe_text(cell) and hide_dates(cell) == cell):
        raise CellError("is no plain name", "do not begin with = + - @, and write no date")
    if name in (PERSON, SITE):
        return cell
    column = data.columns[name]
    if column.kind == "categorical":
        if cell not in column.values:
            action = f"correct it, or add it to data.columns.{name}.values"
            raise CellError(f"is none of {', '.join(column.values)}", action)
        return column.values[cell]
    return _number(cell, column) if column.kind == "numeric" else _age(cell, column, data)


def is_number(cell: str) -> bool:
    return len(cell) <= LONGEST and NUMBER.fullmatch(cell) is not None


def separator_of(cell: str, data: DataConfig) -> str:
    """Return the one separator, which decides on a date's format. Raises CellError."""
    separators = [each for each in data.date_formats if each in cell]
    if len(separators) != 1:
        what = f"does not contain exactly one of the separators {' '.join(data.date_formats)}"
        raise CellError(what, "correct it, or extend data.date_formats")
    return separators[0]


def birth_date(cell: str, data: DataConfig) -> datetime:
    """Return a birth date. Raises CellError."""
    form = data.date_formats[separator_of(cell, data)]
    try:
        if cell.isascii():  # strptime would take the digits of every script
            return datetime.strptime(cell, form)
    except ValueError:
        pass
    raise CellError(f"is not a date of the form {' '.join(data.date_formats.values())}")


def input_schema(column: ColumnConfig) -> dict[str, Any]:
    """Return what decides on a column's values as the model's input, to compare cohorts."""
    if column.kind == "categorical":
        return {"kind": column.kind, "categories": column.categories}
    # An age in years is at a date that a later cohort must be free to choose.
    schema = {"kind": "numeric", "log": column.kind == "numeric" and column.log}
    in_calendar_years = column.kind == "date_of_birth" and column.calendar_years
    return schema | ({"calendar_years": True} if in_calendar_years else {})


def _number(cell: str, column: NumericColumn) -> float:
    if not is_number(cell) or abs(number := float(cell)) > LARGEST:
        raise CellError("is not a number", "write digits with a decimal point, without unit")
    # Digits before the point, as written (01021950) and as they count (1.9480107e7): the audit
    # would show a birth date as the column's highest value.
    whole = f"{re.split('[.eE]', cell.lstrip('+-'))[0]} {abs(int(number))}"
    if hide_dates(whole) != whole:
        raise CellError("is written like a date")
    if (column.positive or column.log) and number <= 0:
        raise CellError("is not above 0")
    return number


def _age(cell: str, column: DateOfBirthColumn, data: DataConfig) -> float:
    """Return the years at a fixed date: today's would change with the calendar."""
    reference, born = datetime.strptime(data.reference_date, DAY), birth_date(cell, data)
    age = (reference - born).days / 365.25
    if age < 0:
        raise CellError(f"is after data.reference_date {reference:{DAY}}")
    if age > OLDEST:
        raise CellError(f"makes the patient older than {OLDEST} on {reference:{DAY}}")
    return float(reference.year - born.year) if column.calendar_years else age
