"""The tables of a run folder, as a stranger may have made them."""

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lymphoml.core.errors import InputError, one_line, quoted
from lymphoml.core.untrusted import is_safe_text, read_bytes
from lymphoml.data.tables import SAFE_ID

AGAIN = "run the same train.py command again"
RANGES = {"fold": (0, 10_000), "label": (0, 1), "probability": (0, 1)}


def read_columns(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """A csv file; its patients and images stay text, 007 as well as NA."""
    try:
        content = io.BytesIO(read_bytes(path))
        table = pd.read_csv(
            content, dtype={"patient": str, "image": str}, na_filter="patient" not in columns
        )
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"{path} cannot be read: {_reason(error)}; {AGAIN}") from None
    if lacking := [column for column in columns if column not in table]:
        raise InputError(f"{path} has no column {', '.join(lacking)}; {AGAIN}")
    if problem := _wrong_cell(table, columns):
        raise InputError(f"{path}: {problem}; {AGAIN}")
    return table


def _wrong_cell(table: pd.DataFrame, columns: Sequence[str]) -> str | None:
    """An id that would be a formula in a spreadsheet, a number that is none."""
    for name in ("patient", "image"):
        if name in columns:
            odd = ~table[name].astype(str).map(is_safe_text)
            if name == "patient":
                odd |= ~table[name].astype(str).str.fullmatch(SAFE_ID)
            if odd.any():
                return f"{quoted(str(table[name][odd].iloc[0]), 60)} is no {name}'s name"
    for name, (low, high) in RANGES.items():
        if name in columns:
            numbers = pd.to_numeric(table[name], errors="coerce")
            wrong = ~numbers.between(low, high)
            if name != "probability":
                wrong |= numbers != numbers.round()
            if wrong.any():
                row = table[wrong].iloc[0]
                whose = f"patient {row['patient']} has" if "patient" in columns else "there is"
                return f"{whose} a {name} that is none, {quoted(str(row[name]), 60)}"
    return None


def _reason(error: Exception) -> str:
    told = (error.strerror or "") if isinstance(error, OSError) else ""
    return told or one_line(error)[:200]
