"""Runs on the same patients and folds, one beside the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from lymphoml.errors import InputError, listed
from lymphoml.evaluation.comparison import compare
from lymphoml.evaluation.pairs import SCORES
from lymphoml.evaluation.pooled import pool
from lymphoml.evaluation.selection import best_of
from lymphoml.report.alignment import align
from lymphoml.report.comparison import Comparison
from lymphoml.report.names import short_names
from lymphoml.report.optional import read_hard
from lymphoml.report.reference import baseline_run
from lymphoml.report.runs import Run, read_run
from lymphoml.report.scores import clinical_account


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
                f"runs={listed(paths)}: a comparison takes two different runs or more, or one and "
                f"a baseline, such as reference=clinical"
            )
        if reference not in paths:
            raise InputError(f"reference={reference} is none of runs={listed(paths)}")
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
    whole = _compare(given, "everybody", np.ones(len(labels), bool))
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
        best=best_of(labels, models, given.resamples, given.seed, against),
        clinical=clinical_account(next(iter(given.runs.values())), stratum),
        baseline=None if given.baseline is None else _scores(given.baseline, patients),
        drifted=tuple(name for name, run in given.runs.items() if run.drift),
        pretraining={name: run.pretraining for name, run in given.runs.items() if run.pretraining},
    )


def _scores(run: Run, patients: pd.Index) -> dict[str, dict[str, float]]:
    own = run.predictions[run.predictions["patient"].isin(patients)]
    pooled = pool(own, run.config["data"]["folds"], [*SCORES])
    return {score: pooled[score] for score in SCORES}
