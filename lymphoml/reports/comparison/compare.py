"""Runs on the same patients and folds, one beside the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError, format_run_list
from lymphoml.evaluation.paired import PAIR_SCORES
from lymphoml.evaluation.pooled import pool
from lymphoml.evaluation.selection import best_of_n_bias, compare
from lymphoml.reports.comparison.reference import baseline_run
from lymphoml.reports.comparison.result import Comparison
from lymphoml.reports.page.names import short_names
from lymphoml.reports.page.optional import read_hard
from lymphoml.reports.page.scores import clinical_account
from lymphoml.runs.finished_run import Run, read_run

# Out-of-fold predictions of several runs, patient by patient; other patients are refused.

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


def compare_runs(
    paths: Sequence[Path],
    reference: Path | str,
    resamples: int = 2000,
    seed: int = 0,
    tried: int | None = None,
) -> Comparison:
    """`reference` is one of `paths`, or the column of a baseline in the runs' `baselines.csv`.

    `tried` counts the configurations tried, these runs' included; None takes these alone. Raises
    InputError where it is less, where fewer than two runs are given (one, with a baseline), with
    other patients or folds, and as `baseline_run` does.
    """
    paths = list(dict.fromkeys(paths))
    if isinstance(reference, Path):
        if len(paths) < 2:
            raise InputError(
                f"runs={format_run_list(paths)}: a comparison takes two different runs or more, or one and "
                f"a baseline, such as reference=clinical"
            )
        if reference not in paths:
            raise InputError(f"reference={reference} is none of runs={format_run_list(paths)}")
    if tried is not None and tried < len(paths):
        raise InputError(
            f"tried={tried}: {len(paths)} runs are compared; give the number of all configurations "
            f"tried, these included"
        )
    runs = [read_run(path) for path in paths]
    runs.sort(key=lambda run: run.path != reference)  # stable: the reference first
    names = short_names([run.path for run in runs])
    labels, models = align(runs)
    baseline = baseline_run(runs, reference) if isinstance(reference, str) else None
    given = _Aligned(
        runs=dict(zip(names, runs, strict=True)),
        reference=reference if isinstance(reference, str) else names[0],
        baseline=baseline,
        labels=labels,
        models={name: models[run.path] for name, run in zip(names, runs, strict=True)},
        theirs=models[runs[0].path] if baseline is None else align([baseline])[1][baseline.path],
        tried=len(paths) if tried is None else tried,
        resamples=resamples,
        seed=seed,
    )
    whole = _compare(given, "all", np.ones(len(labels), bool))
    hard = read_hard(runs[0])
    if hard is None:
        return whole
    inside = given.patients.isin(hard.index[hard])
    if len(set(labels[inside])) < 2:
        return whole
    return replace(whole, hard=_compare(given, "hard", inside))


@dataclass(frozen=True)
class _Aligned:
    """What is compared, and with what, on the same patients in one order."""

    runs: Mapping[str, Run]
    reference: str
    baseline: Run | None  # the reference, where it is none of `runs`
    labels: np.ndarray  # (n)
    models: Mapping[str, np.ndarray]  # out-of-fold probabilities (r, n) of each run
    theirs: np.ndarray  # of the reference
    tried: int
    resamples: int
    seed: int

    @property
    def patients(self) -> pd.Index:
        first = next(iter(self.runs.values()))
        return pd.Index(sorted(set(first.predictions["patient"])))  # as `align` orders them


def _compare(given: _Aligned, stratum: str, inside: np.ndarray) -> Comparison:
    """On the patients (n) `inside`, which are those of `stratum`."""
    labels, theirs = given.labels[inside], given.theirs[:, inside]
    models = {name: model[:, inside] for name, model in given.models.items()}
    others = {
        name: model
        for name, model in models.items()
        if given.baseline is not None or name != given.reference
    }
    differences = compare(
        labels, others, theirs, given.resamples, given.seed, given.tried - len(models)
    ).rename(
        columns={"model": "run", "value": "difference", "low": "difference_low",
                 "high": "difference_high"}
    )  # fmt: skip
    patients = given.patients[inside]
    rows = [
        {"run": name, "score": score, **told}
        for name, run in given.runs.items()
        for score, told in _scores(run, patients).items()
    ]
    against = theirs if given.baseline is not None else None
    return Comparison(
        reference=given.reference,
        patients=len(labels),
        tried=given.tried,
        table=pd.DataFrame(rows).merge(differences, on=["run", "score"], how="left"),
        best=best_of_n_bias(labels, models, given.resamples, given.seed, against),
        clinical=clinical_account(next(iter(given.runs.values())), stratum),
        baseline=None if given.baseline is None else _scores(given.baseline, patients),
        drifted=tuple(name for name, run in given.runs.items() if run.changes),
    )


def _scores(run: Run, patients: pd.Index) -> dict[str, dict[str, float]]:
    own = run.predictions[run.predictions["patient"].isin(patients)]
    pooled = pool(own, run.config["data"]["folds"], [*PAIR_SCORES])
    return {score: pooled[score] for score in PAIR_SCORES}
