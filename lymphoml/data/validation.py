"""The checks of a clinical table: every problem is found before anything is refused."""

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from lymphoml.data.columns import Categorical, Column
from lymphoml.errors import quoted
from lymphoml.privacy import hide_dates

SAFE_ID = r"[A-Za-z0-9_][A-Za-z0-9_-]*"  # no formula, no option of a command
NOT_GIVEN = ("", "na", "n/a", "nan", "null", "none")  # in any case; a declared category wins


def name_columns(
    raw: pd.DataFrame, path: Path, headings: Mapping[str, str], columns: Sequence[Column]
) -> pd.DataFrame:
    """The table under our names, with `place`: where each row stands.

    A clinical cell that says "not given" becomes a missing value.
    """
    table = pd.DataFrame({ours: raw[theirs] for ours, theirs in headings.items() if theirs in raw})
    for column in columns:
        cells = table[column.name]
        meant = list(column.values) if isinstance(column, Categorical) else []
        table[column.name] = cells.mask(cells.str.lower().isin(NOT_GIVEN) & ~cells.isin(meant))
    table["place"] = [_place(path, line, patient) for line, patient in table["id"].items()]
    return table


def _place(path: Path, line: Hashable, patient: str) -> str:
    told = hide_dates(patient)
    shown = told if re.fullmatch(SAFE_ID, told) else quoted(told, 60)
    return f"{path}, row {line}, patient {shown}"


def table_schema(data: dict, columns: Sequence[Column]) -> pa.DataFrameSchema:
    """What each cell must be. In a check's message, `{value}` stands for the cell at fault."""
    labels = list(data["label_values"])
    safe = pa.Check(
        lambda text: text.str.fullmatch(SAFE_ID).astype(bool),
        error="{value} is not a safe id; use letters without accents, digits, _ and - only, "
        "and begin with no -",
    )
    known = pa.Check(
        lambda text: text.isin(labels),
        error=f"{{value}} is none of {', '.join(map(repr, labels))}; "
        "correct it, or add it to data.label_values",
    )
    schema = {"id": pa.Column(checks=safe), "label": pa.Column(checks=known, required=False)}
    for column in columns:
        schema[column.name] = pa.Column(
            checks=list(column.checks()), nullable=data["missing"] == "impute"
        )
    return pa.DataFrameSchema(schema)


def table_problems(
    table: pd.DataFrame,
    schema: pa.DataFrameSchema,
    headings: Mapping[str, str],
) -> Iterator[tuple[Hashable, str]]:
    """The row and a line for each cell at fault, in the order of the rows."""
    try:
        schema.validate(table, lazy=True)
        return
    except pa.errors.SchemaErrors as error:
        failures = error.failure_cases.sort_values("index", kind="stable")
    for failure in failures.to_dict("records"):
        shown = hide_dates(quoted(str(failure["failure_case"]), 60))
        reason = failure["check"].replace("{value}", shown)
        if failure["check"] == "not_nullable":
            reason = "is missing; fill it in, or allow that with data.missing=impute"
        line = failure["index"]
        yield line, f"{table['place'][line]}: {headings[failure['column']]} {reason}"


def duplicate_problems(tables: Iterable[pd.DataFrame]) -> Iterator[str]:
    """A line for each row whose id an earlier row has, be it in another table.

    Case does not tell ids apart: on some file systems their folders would be one.
    """
    first: dict[str, str] = {}
    for table in tables:
        for patient, place in zip(table["id"].str.casefold(), table["place"], strict=True):
            if patient in first:
                yield f"{place}: the id is taken by {first[patient]}; one row per patient"
            first.setdefault(patient, place)
