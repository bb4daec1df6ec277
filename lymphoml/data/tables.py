"""A clinical table as it is on disk: every cell a string, every row known by its line."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from lymphoml.core.errors import quoted
from lymphoml.core.privacy import hide_dates
from lymphoml.core.untrusted import read_bytes
from lymphoml.data.columns import Categorical, Check, Column
from lymphoml.data.problems import Place, Problem
from lymphoml.data.settings import DataConfig

SEPARATORS = ",;\t"
SAFE_ID = r"[A-Za-z0-9_][A-Za-z0-9_-]*"  # no formula, no option of a command
NOT_GIVEN = ("", "na", "n/a", "nan", "null", "none")  # in any case; a declared category wins
AS_CSV = "save the table as CSV in UTF-8"


def read_table(path: Path, required: set[str], optional: set[str]) -> pd.DataFrame | list[Problem]:
    """Return the required columns of a CSV file, and the optional ones it has, as strings.

    Rows are indexed by the line on which they begin, as an editor counts; blank ones are left out.
    Comma, semicolon or tab separates the cells, whichever makes most of the columns appear. Nothing
    is inferred: 007 stays 007, and NA stays NA. Cells lose only the space around them.
    """
    text = _decode(path)
    if isinstance(text, Problem):
        return [text]
    wanted = required | optional
    first, rest = (
        Place(path, "row 1"),
        "quote a cell that contains the separator, or complete the row",
    )
    try:
        separator = max(SEPARATORS, key=lambda each: len(wanted & set(_header(text, each))))
        header = _header(text, separator)
    except csv.Error as error:
        return [Problem(first, f"not a CSV file ({error})", AS_CSV)]
    problems = [Problem(first, *each) for each in _header_problems(header, required, wanted)]
    lines: list[int] = []
    rows: list[list[str]] = []
    try:
        for line, cells in list(_records(text, separator, strict=True))[1:]:
            if len(cells) < len(header) or any(cells[len(header) :]):
                what = f"{len(cells)} cells where the header has {len(header)}"
                problems.append(Problem(Place(path, f"row {line}"), what, rest))
            lines.append(line)
            rows.append(cells)
    except csv.Error as error:
        problems.append(Problem(Place(path), f"not a CSV file ({error})", AS_CSV))
    if problems:
        return problems
    columns = {name: [row[header.index(name)] for row in rows] for name in wanted & set(header)}
    return pd.DataFrame(columns, index=pd.Index(lines, dtype="int64"), dtype="str")


def _decode(path: Path) -> str | Problem:
    try:
        content = read_bytes(path)
    except OSError as error:
        what = f"the table cannot be read ({error.strerror})"
        return Problem(Place(path), what, "check data.root")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return Problem(Place(path, f"row {line}"), "not UTF-8", AS_CSV)


def _records(text: str, separator: str, strict: bool) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank, with its first line: a quoted cell may span several."""
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


def _header_problems(
    header: list[str], required: set[str], wanted: set[str]
) -> Iterator[tuple[str, str]]:
    if not header:
        yield "the table is empty", "add a header and a row per patient"
    elif not wanted & set(header):
        # Not quoted: without a header, this is a patient.
        yield f"no header with {', '.join(sorted(wanted))}, separated by , ; or tab", "add one"
    elif missing := sorted(required - set(header)):
        has = ", ".join(quoted(name, 40) for name in header[:20])
        yield (
            f"no column {', '.join(missing)}; it has {has}",
            "rename one, or adapt data.id_column, data.label_column or data.columns",
        )
    for name in sorted(wanted):
        if header.count(name) > 1:
            yield f"{header.count(name)} columns are called {name}", "keep one"


# Checks of a clinical table


def name_columns(
    raw: pd.DataFrame, path: Path, data: DataConfig, columns: Sequence[Column]
) -> pd.DataFrame:
    """Return the table under the configuration's names, with the `place` of each row.

    A clinical cell that means "not given" becomes a missing value.
    """
    table = pd.DataFrame({"id": raw[data.id_column]})
    if data.label_column in raw:
        table["label"] = raw[data.label_column]
    for column in columns:
        cells = raw[column.column]
        categories = list(column.values) if isinstance(column, Categorical) else []
        table[column.name] = cells.mask(cells.str.lower().isin(NOT_GIVEN) & ~cells.isin(categories))
    places = [_place(path, line, patient) for line, patient in table["id"].items()]
    table["place"] = pd.Series(places, table.index, dtype=object)
    return table


def _place(path: Path, line: object, patient: str) -> Place:
    hidden = hide_dates(patient)
    shown = hidden if re.fullmatch(SAFE_ID, hidden) else quoted(hidden, 60)
    return Place(path, f"row {line}, patient {shown}")


def cell_problems(
    table: pd.DataFrame, data: DataConfig, columns: Sequence[Column]
) -> list[tuple[int, Problem]]:
    """Return the row and a problem for each cell at fault, in the order of the rows."""
    safe = Check(
        lambda text: text.str.fullmatch(SAFE_ID).astype(bool),
        "is not a safe id",
        "use letters without accents, digits, _ and - only, and do not begin with -",
    )
    found = [*_wrong_cells(table, "id", data.id_column, [safe])]
    if "label" in table:
        labels = list(data.label_values)
        known = Check(
            lambda text: text.isin(labels),
            f"is none of {', '.join(map(repr, labels))}",
            "correct it, or add it to data.label_values",
        )
        found += _wrong_cells(table, "label", data.label_column, [known])
    for column in columns:
        found += _wrong_cells(table, column.name, column.column, column.checks())
        if data.missing == "error":
            what, action = f"{column.column} is missing", "fill it in, or set data.missing=impute"
            lines = table.index[table[column.name].isna()]
            found += [(line, Problem(table["place"][line], what, action)) for line in lines]
    return sorted(found, key=lambda each: each[0])


def _wrong_cells(
    table: pd.DataFrame, name: str, heading: str, checks: Iterable[Check]
) -> Iterator[tuple[int, Problem]]:
    given = table[name].dropna()
    for check in checks:
        wrong = given[~check.valid(given)]
        for line, cell in zip(wrong.index.tolist(), wrong, strict=True):
            shown = hide_dates(quoted(cell, 60)) if check.quoted else ""
            what = f"{heading} {check.what}"
            yield line, Problem(table["place"][line], what, check.action, shown)


def duplicate_problems(tables: Mapping[int, pd.DataFrame]) -> Iterator[Problem]:
    """Yield a problem for each row whose id an earlier row has, be it in another table.

    Case does not distinguish ids: on some file systems their folders would be one.
    """
    first: dict[str, Place] = {}
    for table in tables.values():
        for patient, place in zip(table["id"].str.casefold(), table["place"], strict=True):
            if patient in first:
                other = f"{first[patient].path.name}, {first[patient].where}"
                action = "keep one row per patient"
                yield Problem(place, "another row has this id", action, private=other)
            first.setdefault(patient, place)
