"""A clinical table as it is on disk: every cell a string, every row known by its line."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lymphoml.core.errors import quoted
from lymphoml.core.privacy import hide_dates
from lymphoml.core.untrusted import read_bytes
from lymphoml.data.columns import Categorical, Check, Column
from lymphoml.data.problems import Problem

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
    try:
        separator = max(SEPARATORS, key=lambda each: len(wanted & set(_header(text, each))))
        header = _header(text, separator)
    except csv.Error as error:
        return [Problem(path, "row 1", f"not a CSV file ({error})", AS_CSV)]
    problems = list(_header_problems(path, header, required, wanted))
    lines: list[int] = []
    rows: list[list[str]] = []
    try:
        for line, cells in list(_records(text, separator, strict=True))[1:]:
            if len(cells) < len(header) or any(cells[len(header) :]):
                problems.append(
                    Problem(
                        path,
                        f"row {line}",
                        f"{len(cells)} cells where the header has {len(header)}",
                        "quote a cell that contains the separator, or complete the row",
                    )
                )
            lines.append(line)
            rows.append(cells)
    except csv.Error as error:
        problems.append(Problem(path, "", f"not a CSV file ({error})", AS_CSV))
    if problems:
        return problems
    columns = {name: [row[header.index(name)] for row in rows] for name in wanted & set(header)}
    return pd.DataFrame(columns, index=pd.Index(lines, dtype="int64"), dtype="str")


def _decode(path: Path) -> str | Problem:
    try:
        content = read_bytes(path)
    except OSError as error:
        what = f"the table cannot be read ({error.strerror})"
        return Problem(path, "", what, "check data.root")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return Problem(path, f"row {line}", "not UTF-8", AS_CSV)


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
    path: Path, header: list[str], required: set[str], wanted: set[str]
) -> Iterator[Problem]:
    if not header:
        yield Problem(path, "row 1", "the table is empty", "add a header and a row per patient")
    elif not wanted & set(header):
        # Not quoted: without a header, this is a patient.
        what = f"no header with {', '.join(sorted(wanted))}, separated by , ; or tab"
        yield Problem(path, "row 1", what, "add one")
    elif missing := sorted(required - set(header)):
        has = ", ".join(quoted(name, 40) for name in header[:20])
        yield Problem(
            path,
            "row 1",
            f"no column {', '.join(missing)}; it has {has}",
            "rename one, or adapt data.id_column, data.label_column or data.columns",
        )
    for name in sorted(wanted):
        if header.count(name) > 1:
            yield Problem(
                path, "row 1", f"{header.count(name)} columns are called {name}", "keep one"
            )


# The checks of a clinical table: every problem is found before anything is refused.


class Rule(NamedTuple):
    """What the cells of a column must be."""

    heading: str  # in the table
    checks: Sequence[Check]
    optional: bool = False  # whether a cell may be missing


def rules(
    headings: Mapping[str, str], columns: Sequence[Column], labels: Iterable[str], missing: str
) -> dict[str, Rule]:
    """Return the rule of each column; `headings` are those of `id`, `label` and `columns`."""
    allowed = ", ".join(map(repr, labels))
    safe = Check(
        lambda text: text.str.fullmatch(SAFE_ID).astype(bool),
        "is not a safe id",
        "use letters without accents, digits, _ and - only, and do not begin with -",
    )
    known = Check(
        lambda text: text.isin(list(labels)),
        f"is none of {allowed}",
        "correct it, or add it to data.label_values",
    )
    return {
        "id": Rule(headings["id"], [safe]),
        "label": Rule(headings["label"], [known]),
        **{
            column.name: Rule(column.column, list(column.checks()), missing == "impute")
            for column in columns
        },
    }


def name_columns(
    raw: pd.DataFrame, headings: Mapping[str, str], columns: Sequence[Column]
) -> pd.DataFrame:
    """Return the table under the configuration's names, with `where`: the place of each row.

    A clinical cell that means "not given" becomes a missing value.
    """
    table = pd.DataFrame({name: raw[head] for name, head in headings.items() if head in raw})
    for column in columns:
        cells = table[column.name]
        categories = list(column.values) if isinstance(column, Categorical) else []
        table[column.name] = cells.mask(cells.str.lower().isin(NOT_GIVEN) & ~cells.isin(categories))
    table["where"] = [f"row {line}, patient {_shown(each)}" for line, each in table["id"].items()]
    return table


def _shown(patient: str) -> str:
    hidden = hide_dates(patient)
    return hidden if re.fullmatch(SAFE_ID, hidden) else quoted(hidden, 60)


def cell_problems(
    table: pd.DataFrame, path: Path, rules: Mapping[str, Rule]
) -> list[tuple[int, Problem]]:
    """Return the row and a problem for each cell at fault, in the order of the rows."""
    found = []
    for name, rule in rules.items():
        if name not in table:
            continue
        given = table[name].dropna()
        for line in table.index.difference(given.index) if not rule.optional else []:
            action = "fill it in, or allow that with data.missing=impute"
            what = f"{rule.heading} is missing"
            found.append((line, Problem(path, table["where"][line], what, action)))
        for check in rule.checks:
            for line, cell in given[~check.valid(given)].items():
                shown = hide_dates(quoted(cell, 60)) if check.quoted else ""
                what = f"{rule.heading} {check.what}"
                found.append((line, Problem(path, table["where"][line], what, check.action, shown)))
    return sorted(found, key=lambda each: each[0])


def duplicate_problems(tables: Mapping[Path, pd.DataFrame]) -> Iterator[Problem]:
    """Yield a problem for each row whose id an earlier row has, be it in another table.

    Case does not distinguish ids: on some file systems their folders would be one.
    """
    first: dict[str, str] = {}
    for path, table in tables.items():
        for patient, where in zip(table["id"].str.casefold(), table["where"], strict=True):
            if patient in first:
                yield Problem(
                    path, where, "another row has this id", "keep one row per patient",
                    private=first[patient],
                )  # fmt: skip
            first.setdefault(patient, f"{path.name}, {where}")
