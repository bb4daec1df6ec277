"""A clinical table as it is on disk: every cell a string, every row known by its line."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lymphoml.core.errors import quoted
from lymphoml.core.privacy import hide_dates
from lymphoml.core.untrusted import read_bytes
from lymphoml.data.columns import PERSON, SAFE_ID, SITE, CellError, read_cell
from lymphoml.data.problems import DataError, Place, Problem
from lymphoml.data.settings import DataConfig

SEPARATORS = ",;\t"
NOT_GIVEN = ("", "na", "n/a", "nan", "null", "none")  # in any case; a declared category wins
MAX_PROBLEMS = 10_000  # of rows that are listed
AS_CSV = "save the table as CSV in UTF-8"


class Rows(NamedTuple):
    header: list[str]
    cells: dict[int, list[str]]  # by the line on which a row begins, as an editor counts

    def column(self, name: str) -> pd.Series:
        position = self.header.index(name)
        cells = [row[position] for row in self.cells.values()]
        return pd.Series(cells, pd.Index(list(self.cells), dtype="int64"), dtype="str")


def read_rows(path: Path, required: set[str], optional: set[str], advice: str) -> Rows:
    """Return a CSV file's cells, stripped, without blank rows. Raises DataError, with `advice`."""
    text, wanted = _decode(path), required | optional
    problems, rows = [], {}
    try:
        separator = max(SEPARATORS, key=lambda each: len(wanted & set(_header(text, each))))
        header = _header(text, separator)
        for what, action in _header_problems(header, required, wanted, advice):
            problems.append(Problem(Place(path, "row 1"), what, action))
        for line, cells in list(_records(text, separator, strict=True))[1:]:
            if len(cells) < len(header) or any(cells[len(header) :]):
                what = f"{len(cells)} cells where the header has {len(header)}"
                action = "quote a cell that contains the separator, or complete the row"
                problems.append(Problem(Place(path, f"row {line}"), what, action))
                if len(problems) == MAX_PROBLEMS:  # each takes 500 bytes for a row of two
                    break
            rows[line] = cells
    except csv.Error as error:
        problems.append(Problem(Place(path), f"not a CSV file ({error})", AS_CSV))
    if problems:
        raise DataError(*problems)
    return Rows(header, rows)


def _decode(path: Path) -> str:
    try:
        content = read_bytes(path)
        return content.decode("utf-8-sig")
    except OSError as error:
        what = f"the table cannot be read ({error.strerror})"
        raise DataError(Problem(Place(path), what, "check data.root")) from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(Problem(Place(path, f"row {line}"), "not UTF-8", AS_CSV)) from None


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
    header: list[str], required: set[str], wanted: set[str], advice: str
) -> Iterator[tuple[str, str]]:
    if not header:
        yield "the table is empty", "add a header and a row per patient"
    elif not wanted & set(header):
        # Not quoted: without a header, this is a patient.
        yield f"no header with {', '.join(sorted(wanted))}, separated by , ; or tab", "add one"
    elif missing := sorted(required - set(header)):
        has = ", ".join(quoted(name, 40) for name in header[:20])
        yield f"no column {', '.join(missing)}; it has {has}", advice
    for name in sorted(wanted):
        if header.count(name) > 1:
            yield f"{header.count(name)} columns are called {name}", "keep one"


def read_table(path: Path, data: DataConfig) -> pd.DataFrame:
    """Return `id`, `label`, `data.columns`, `place` by line; NaN: not given. Raises DataError."""
    headings = _headings(data)
    # A cohort to predict may come without labels.
    optional = {data.label_column} if data.layout == "table" else set()
    advice = "rename one, or adapt data.id_column, data.label_column or data.columns"
    if data.person_column or data.site_column:
        advice += f"; {PERSON}=null {SITE}=null does without these"
    rows = read_rows(path, set(headings.values()) - optional, optional, advice)
    table = pd.DataFrame({
        name: rows.column(heading) for name, heading in headings.items() if heading in rows.header
    })  # fmt: skip
    for name in table.columns.drop(["id", "label"], errors="ignore"):
        column = data.columns.get(name)
        categories = list(column.values) if column and column.kind == "categorical" else []
        given = ~table[name].str.lower().isin(NOT_GIVEN) | table[name].isin(categories)
        table[name] = table[name].where(given)
    places = []
    for line, patient in table["id"].items():
        hidden = hide_dates(patient)
        shown = hidden if re.fullmatch(SAFE_ID, hidden) else quoted(hidden, 60)
        places.append(Place(path, f"row {line}, patient {shown}"))
    table["place"] = pd.Series(places, table.index, dtype=object)
    return table


def _headings(data: DataConfig) -> dict[str, str]:
    columns = {name: column.column for name, column in data.columns.items()}
    declared = {PERSON: data.person_column, SITE: data.site_column}
    given = {name: heading for name, heading in declared.items() if heading}
    return {"id": data.id_column, "label": data.label_column} | given | columns


def cell_problems(table: pd.DataFrame, data: DataConfig) -> Iterator[tuple[object, Problem]]:
    """Yield the row and a problem for each cell at fault. No birth date is quoted."""
    headings = {name: heading for name, heading in _headings(data).items() if name in table}
    columns = [table[name] for name in headings]
    for row, place, *cells in zip(table.index, table["place"], *columns, strict=True):
        for (name, heading), cell in zip(headings.items(), cells, strict=True):
            try:
                read_cell(name, cell, data)
            except CellError as error:
                hidden = pd.isna(cell) or name in (PERSON, *data.birth_dates)
                shown = "" if hidden else hide_dates(quoted(cell, 60))
                yield row, Problem(place, f"{heading} {error.what}", error.action, shown)


def duplicate_problems(table: pd.DataFrame) -> Iterator[tuple[object, Problem]]:
    """Yield row and problem for each row whose id an earlier row has, in any case."""
    first: dict[str, Place] = {}
    ids = table["id"].str.casefold()
    for row, patient, place in zip(table.index, ids, table["place"], strict=True):
        if patient in first:
            other = f"{first[patient].path.name}, {first[patient].where}"
            yield row, Problem(place, "another row has this id", "keep one row per patient", other)
        first.setdefault(patient, place)
