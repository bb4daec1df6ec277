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

    Raises InputError, a line a run, where a run has other patients, labels or folds than the first.
    """
    tables = [_by_patient(run) for run in runs]
    if problems := [
        f"{run.path}: {difference} in {runs[0].path}; {ADVICE}"
        for run, table in zip(runs, tables, strict=True)
        if (difference := _difference(run, table, runs[0], tables[0]))
    ]:
        raise InputError(problems)
    labels = tables[0].query("repeat == 0").set_index("patient")["label"]
    shape = (-1, len(labels))
    return labels, {
        run.path: table["probability"].to_numpy(float).reshape(shape)
        for run, table in zip(runs, tables, strict=True)
    }


def mismatched_runs(runs: Sequence[Run]) -> list[Run]:
    """The runs with other patients or folds than the first."""
    folds = [set(zip(run.folds["patient"], run.folds["fold"], strict=True)) for run in runs]
    return [run for run, own in zip(runs, folds, strict=True) if own != folds[0]]


def _by_patient(run: Run) -> pd.DataFrame:
    """The predictions by repeat and patient. Raises InputError unless each is there once."""
    table = run.predictions.assign(repeat=run.repeat)
    table = table.sort_values(["repeat", "patient"], ignore_index=True)
    counts = table["patient"].value_counts()
    duplicate = table.duplicated(["repeat", "patient"])
    if (wrong := duplicate | (table["patient"].map(counts) != table["repeat"].nunique())).any():
        patient = table["patient"][wrong].iloc[0]
        raise InputError(
            f"{run.path / 'predictions.csv'}: patient {patient} is missing or duplicated in a "
            f"repeat; train again"
        )
    return table


def _difference(run: Run, table: pd.DataFrame, first: Run, known: pd.DataFrame) -> str | None:
    """How `run` differs, as far as the words "... in FIRST"; None where it does not."""
    for key in ("folds", "repeats"):
        value, wanted = run.config["data"][key], first.config["data"][key]
        if value != wanted:
            return f"data.{key} is {value} here and {wanted}"
    rows, wanted = (
        set(each[["patient", "fold", "label"]].itertuples(index=False, name=None))
        for each in (table, known)
    )
    if rows == wanted:
        return None
    return f"patient {min(rows ^ wanted)[0]} is not here, or has another fold or label than"
