"""A clinical table as it lies on disk: every cell a string, every row known by its line."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from lymphoml.errors import InputError, quoted
from lymphoml.foreign import read_bytes

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
