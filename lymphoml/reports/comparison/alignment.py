"""Align the out-of-fold predictions of runs patient by patient."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.runs.finished_run import Run

ADVICE = "give runs with the same cohort, seed, data.folds and data.repeats"


def align(runs: Sequence[Run]) -> tuple[pd.Series, dict[Path, np.ndarray]]:
    """The labels by patient (n), and each run's probabilities (r repeats, n) in the same order.

    Raises InputError, a line a run, with the first way in which it differs from the first run:
    number of folds, patients, labels, folds.
    """
    tables = {run.path: _by_patient(run) for run in runs}
    first = runs[0]
    if problems := [
        f"{run.path}: {difference} in {first.path}; {ADVICE}"
        for run in runs[1:]
        if (difference := _difference(run, first, tables))
    ]:
        raise InputError(problems)
    labels = tables[first.path].query("repeat == 0").set_index("patient")["label"]
    models = {
        path: table["probability"].to_numpy(float).reshape(-1, len(labels))
        for path, table in tables.items()
    }
    return labels, models


def mismatched_runs(runs: Sequence[Run]) -> list[Run]:
    """The runs with other patients or folds than the first."""
    folds = [set(zip(run.folds["patient"], run.folds["fold"], strict=True)) for run in runs]
    return [run for run, own in zip(runs, folds, strict=True) if own != folds[0]]


def _by_patient(run: Run) -> pd.DataFrame:
    """The predictions by repeat and patient. Raises InputError unless each is there once."""
    table = run.predictions.assign(repeat=run.repeat)
    table = table.sort_values(["repeat", "patient"], ignore_index=True)
    path, patients = run.path / "predictions.csv", table["patient"]
    duplicate = table.duplicated(["repeat", "patient"])
    missing = patients.map(patients.value_counts()) < table["repeat"].nunique()
    for rows, problem in ((duplicate, "is duplicated"), (missing, "is missing")):
        if rows.any():
            raise InputError(
                f"{path}: patient {patients[rows].iloc[0]} {problem} in a repeat; train again"
            )
    return table


def _difference(run: Run, first: Run, tables: dict[Path, pd.DataFrame]) -> str | None:
    """How `run` differs from `first`, as far as the words "... in FIRST"; None where it does not."""
    folds, wanted = run.config["data"]["folds"], first.config["data"]["folds"]
    if folds != wanted:
        return f"data.folds is {folds} here and {wanted}"
    table, reference = tables[run.path], tables[first.path]
    patients, known = set(table["patient"]), set(reference["patient"])
    if extra := sorted(patients - known):
        return f"patient {extra[0]} is here and not"
    if missing := sorted(known - patients):
        return f"patient {missing[0]} is not here and is"
    repeats, wanted = table["repeat"].nunique(), reference["repeat"].nunique()
    if repeats != wanted:
        return f"data.repeats is {repeats} here and {wanted}"
    for column, verb in (("label", "has label"), ("fold", "is in fold")):
        differs = table[column] != reference[column]
        if differs.any():
            row, other = table[differs].iloc[0], reference[differs].iloc[0]
            return f"patient {row['patient']} {verb} {row[column]} here and {other[column]}"
    return None
