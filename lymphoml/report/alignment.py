"""Out-of-fold predictions of several runs, patient by patient; other patients are refused."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lymphoml.errors import InputError
from lymphoml.report.runs import Run

SAME = "give runs of one cohort, seed, data.folds and data.repeats"


def align(runs: Sequence[Run]) -> tuple[np.ndarray, dict[Path, np.ndarray]]:
    """The labels (n) and each run's probabilities (r repeats, n), patients in one order.

    Raises InputError, a line a run, naming the first way in which it differs from the first run:
    number of folds, patients, labels, folds.
    """
    tables = {run.path: _by_patient(run) for run in runs}
    first = runs[0]
    problems = [
        f"{run.path}: {difference} in {first.path}; {SAME}"
        for run in runs[1:]
        if (difference := _difference(run, first, tables))
    ]
    if problems:
        raise InputError(problems)
    labels = tables[first.path].query("repeat == 0")["label"].to_numpy()
    models = {
        path: table["probability"].to_numpy(float).reshape(-1, len(labels))
        for path, table in tables.items()
    }
    return labels, models


def elsewhere(runs: Sequence[Run]) -> list[Run]:
    """Those of other patients or folds than the first."""
    folds = [set(zip(run.folds["patient"], run.folds["fold"], strict=True)) for run in runs]
    return [run for run, its in zip(runs, folds, strict=True) if its != folds[0]]


def _by_patient(run: Run) -> pd.DataFrame:
    """The predictions by repeat and patient, after checking that each stands there once."""
    table = run.predictions.assign(repeat=run.repeat).sort_values(
        ["repeat", "patient"], ignore_index=True
    )
    path, patients = run.path / "predictions.csv", table["patient"]
    twice = table.duplicated(["repeat", "patient"])
    fewer = patients.map(patients.value_counts()) < table["repeat"].nunique()
    for rows, problem in (
        (twice, "stands twice in a repeat"),
        (fewer, "is missing in a repeat"),
    ):
        if rows.any():
            raise InputError(f"{path}: patient {patients[rows].iloc[0]} {problem}; train again")
    return table


def _difference(run: Run, first: Run, tables: dict[Path, pd.DataFrame]) -> str | None:
    """What is otherwise in `run` than in `first`, as far as the words "... in FIRST"."""
    ours, theirs = (one.config["data"]["folds"] for one in (run, first))
    if ours != theirs:
        return f"data.folds is {ours} here and {theirs}"
    here, there = tables[run.path], tables[first.path]
    patients, known = set(here["patient"]), set(there["patient"])
    if extra := sorted(patients - known):
        return f"patient {extra[0]} is here and not"
    if lost := sorted(known - patients):
        return f"patient {lost[0]} is not here and is"
    repeats, wanted = here["repeat"].nunique(), there["repeat"].nunique()
    if repeats != wanted:
        return f"data.repeats is {repeats} here and {wanted}"
    for column, verb in (("label", "has label"), ("fold", "is in fold")):
        differs = here[column] != there[column]
        if differs.any():
            patient, one, other = (
                table[differs].iloc[0][name]
                for table, name in ((here, "patient"), (here, column), (there, column))
            )
            return f"patient {patient} {verb} {one} here and {other}"
    return None
