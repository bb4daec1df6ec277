"""A clinical table as it lies on disk: every cell a string, every row known by its line."""

import csv
import io
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from lymphoml.core.errors import InputError, quoted
from lymphoml.core.privacy import hide_dates
from lymphoml.core.untrusted import read_bytes
from lymphoml.data.columns import Categorical, Column

SEPARATORS = ",;\t"


def read_table(path: Path, required: set[str], optional: set[str]) -> pd.DataFrame:
    """The required columns of a CSV file, and the optional ones it has, as strings.

    Rows are indexed by the line on which they begin, as an editor counts; blank ones are left out.
    Comma, semicolon or tab separates the cells, whichever makes most of the columns appear. Nothing
    is inferred: 007 stays 007, and NA stays NA. Cells lose only the space around them.
    """
    text = _decode(path)
    wanted = required | optional
    try:
        separator = max(SEPARATORS, key=lambda each: len(wanted & set(_header(text, each))))
        header = _header(text, separator)
    except csv.Error as error:
        raise InputError(f"{path}, row 1: {_no_csv(error)}") from None
    problems = list(_header_problems(header, required, wanted))
    lines: list[int] = []
    rows: list[list[str]] = []
    try:
        for line, cells in list(_records(text, separator, strict=True))[1:]:
            if len(cells) < len(header) or any(cells[len(header) :]):
                problems.append(
                    f"row {line}: {len(cells)} cells where the header has {len(header)}; "
                    "quote a cell that contains the separator, or complete the row"
                )
            lines.append(line)
            rows.append(cells)
    except csv.Error as error:
        problems.append(_no_csv(error))
    if problems:
        raise InputError(f"{path}, {problem}" for problem in problems)
    columns = {name: [row[header.index(name)] for row in rows] for name in wanted & set(header)}
    return pd.DataFrame(columns, index=pd.Index(lines, dtype="int64"), dtype="str")


def _no_csv(error: csv.Error) -> str:
    return f"not a CSV file ({error}); save the table as CSV in UTF-8"


def _decode(path: Path) -> str:
    try:
        content = read_bytes(path)
    except OSError as error:
        raise InputError(
            f"{path}: the table cannot be read ({error.strerror}); check data.root"
        ) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, row {line}: not UTF-8; save the table as CSV in UTF-8") from None


def _records(text: str, separator: str, strict: bool) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, with its first line: a quoted cell may span several."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=strict)
    line = 1
    for row in reader:
        cells = [cell.strip() for cell in row]
        if any(cells):
            yield line, cells
        line = reader.line_num + 1


def _header(text: str, separator: str) -> list[str]:
    # Not strict: under a wrong separator, the quotes of a good header look misplaced.
    return next(_records(text, separator, strict=False), (1, []))[1]


def _header_problems(header: list[str], required: set[str], wanted: set[str]) -> Iterator[str]:
    if not header:
        yield "row 1: the table is empty; it needs a header and one row per patient"
    elif not wanted & set(header):
        # Not quoted: without a header, this is a patient.
        yield f"row 1: no header with {', '.join(sorted(wanted))}, separated by , ; or tab; add one"
    elif missing := sorted(required - set(header)):
        has = ", ".join(quoted(name, 40) for name in header[:20])
        yield (
            f"row 1: no column {', '.join(missing)}; it has {has}; "
            "rename one, or adapt data.id_column, data.label_column or data.columns"
        )
    for name in sorted(wanted):
        if header.count(name) > 1:
            yield f"row 1: {header.count(name)} columns are called {name}; keep one"


# The checks of a clinical table: every problem is found before anything is refused.

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
