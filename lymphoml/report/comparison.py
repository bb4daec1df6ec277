"""Runs on the same patients and folds, one beside the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from lymphoml.errors import InputError
from lymphoml.evaluation.comparison import compare, smallest_detectable
from lymphoml.evaluation.pairs import SCORES
from lymphoml.evaluation.pooled import pool
from lymphoml.evaluation.selection import Best, best_of
from lymphoml.report.alignment import align
from lymphoml.report.optional import read_hard
from lymphoml.report.runs import Run, read_run
from lymphoml.report.scores import clinical_account
from lymphoml.report.settings import flatten

PAPER = {"optim": "SGD", "lr": 1e-4, "scheduler": "ExponentialLR"}  # the report's, in a sweep


@dataclass(frozen=True)
class Comparison:
    """`table` has a row a run and score: `run, score, value, low, high`, then of the difference to
    the reference `difference, difference_low, difference_high, p, p_holm, detectable`, NaN in the
    reference's rows. `best` is by score, `detectable` the medians over runs: of one comparison
    planned beforehand, and under Holm's correction for all of them. `clinical` is a line on what
    the clinical values alone reach. `hard` is the same of the hard stratum alone, with a correction
    of its own; None where the runs tell of none, or it lacks a class. `drifted` are the runs whose
    code, libraries, data or machine changed while they were made; `pretraining` says by run which
    images its encoder had seen.
    """

    reference: str
    patients: int
    table: pd.DataFrame
    best: dict[str, Best]
    detectable: dict[str, dict[str, float]]
    clinical: str
    hard: "Comparison | None" = None
    drifted: tuple[str, ...] = ()
    pretraining: Mapping[str, str] = field(default_factory=dict)


def compare_runs(
    paths: Sequence[Path], reference: Path, resamples: int = 2000, seed: int = 0
) -> Comparison:
    """Raises InputError where fewer than two runs are given, or with other patients or folds."""
    if len(set(paths)) < 2:
        raise InputError(f"runs={_listed(paths)}: a comparison takes two different runs or more")
    if reference not in paths:
        raise InputError(f"reference={reference} is none of runs={_listed(paths)}")
    runs = [read_run(path) for path in dict.fromkeys(paths)]
    runs.sort(key=lambda run: run.path != reference)  # stable: the reference first
    names = short_names([run.path for run in runs])
    labels, models = align(runs)
    by_name = dict(zip(names, runs, strict=True))
    patients = pd.Index(sorted(set(runs[0].predictions["patient"])))  # as `align` orders them
    whole = _compare(by_name, "everybody", patients, labels, models, resamples, seed)
    hard = read_hard(runs[0])
    if hard is None:
        return whole
    inside = patients.isin(hard.index[hard])
    if len(set(labels[inside])) < 2:
        return whole
    models = {path: model[:, inside] for path, model in models.items()}
    part = _compare(by_name, "hard", patients[inside], labels[inside], models, resamples, seed)
    return replace(whole, hard=part)


def _compare(
    runs: Mapping[str, Run],
    stratum: str,
    patients: pd.Index,
    labels: np.ndarray,
    models: Mapping[Path, np.ndarray],
    resamples: int,
    seed: int,
) -> Comparison:
    """On these patients; the first of `runs` is the reference."""
    reference, first = next(iter(runs.items()))
    by_name = {name: models[run.path] for name, run in runs.items()}
    differences = compare(labels, by_name, reference, resamples, seed)
    rows = []
    for name, run in runs.items():
        own = run.predictions[run.predictions["patient"].isin(patients)]
        pooled = pool(own, run.config["data"]["folds"], [*SCORES])
        rows += [{"run": name, "score": score, **pooled[score]} for score in SCORES]
    differences = differences.rename(
        columns={"model": "run", "value": "difference", "low": "difference_low",
                 "high": "difference_high"}
    )  # fmt: skip
    return Comparison(
        reference=reference,
        patients=len(labels),
        table=pd.DataFrame(rows).merge(differences, on=["run", "score"], how="left"),
        best=best_of(labels, by_name, resamples, seed),
        detectable=_detectable(differences),
        clinical=clinical_account(first, stratum),
        drifted=tuple(name for name, run in runs.items() if run.drift),
        pretraining={name: run.pretraining for name, run in runs.items() if run.pretraining},
    )


def parts(comparison: Comparison) -> dict[str, Comparison]:
    """By stratum."""
    hard = {} if comparison.hard is None else {"hard": comparison.hard}
    return {"everybody": comparison} | hard


def papers_run(paths: Sequence[Path]) -> Path | None:
    """The one run of a sweep that has the report's optimiser, rate and scheduler, if one has."""
    settings = {path: flatten(read_run(path).config) for path in paths}
    found = [
        path
        for path, flat in settings.items()
        if all(flat.get(key) == value for key, value in PAPER.items())
    ]
    return found[0] if len(found) == 1 else None


def short_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of the folders, as few as tell them apart."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _detectable(differences: pd.DataFrame) -> dict[str, dict[str, float]]:
    told = int(differences["p"].notna().sum())
    ratio = smallest_detectable(1.0, max(told, 1)) / smallest_detectable(1.0)
    medians = {
        score: float(np.nanmedian(rows)) if rows.notna().any() else np.nan
        for score, rows in differences.groupby("score")["detectable"]
    }
    return {score: {"one": medians[score], "holm": medians[score] * ratio} for score in SCORES}


def _listed(paths: Sequence[Path]) -> str:
    return f"[{','.join(map(str, paths))}]"
