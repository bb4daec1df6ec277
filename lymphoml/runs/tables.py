"""Read the CSV files of a run folder, which somebody else may have made."""

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lymphoml.core.errors import InputError, one_line, quoted
from lymphoml.core.untrusted import is_safe_text, read_bytes
from lymphoml.data.tables import SAFE_ID

RERUN = "run the same train.py command again"
RANGES = {"fold": (0, 10_000), "label": (0, 1), "probability": (0, 1)}
PREDICTIONS = ("patient", "fold", "label", "probability")


def read_predictions_csv(path: Path, columns: Sequence[str] = PREDICTIONS) -> pd.DataFrame:
    """Return a run's table, which must have these columns; patients stay text, 007 as well as NA.

    Raises InputError for an id that is a formula in a spreadsheet or a value out of range.
    """
    try:
        content = io.BytesIO(read_bytes(path))
        text = {"patient": str, "image": str}
        table = pd.read_csv(content, dtype=text, na_filter="patient" not in columns)
    except (OSError, ValueError, OverflowError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or one_line(error)[:200]
        raise InputError(f"{path} cannot be read: {reason}; {RERUN}") from None
    if missing := [column for column in columns if column not in table]:
        raise InputError(f"{path} has no column {', '.join(missing)}; {RERUN}")
    if problem := _invalid_cell(table, columns):
        raise InputError(f"{path}: {problem}; {RERUN}")
    return table


def _invalid_cell(table: pd.DataFrame, columns: Sequence[str]) -> str | None:
    for name in ("patient", "image"):
        if name in columns:
            invalid = ~table[name].astype(str).map(is_safe_text)
            if name == "patient":
                invalid |= ~table[name].astype(str).str.fullmatch(SAFE_ID)
            if invalid.any():
                return f"{quoted(str(table[name][invalid].iloc[0]), 60)} is not a valid {name}"
    for name, (low, high) in RANGES.items():
        if name in columns:
            numbers = pd.to_numeric(table[name], errors="coerce")
            invalid = ~numbers.between(low, high)
            if name != "probability":
                invalid |= numbers != numbers.round()
            if invalid.any():
                row = table[invalid].iloc[0]
                where = f" of patient {row['patient']}" if "patient" in columns else ""
                return f"{name}{where} is {quoted(str(row[name]), 60)}, must be {low} to {high}"
    return None
