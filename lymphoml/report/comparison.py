"""Runs on the same patients and folds, one beside the other: `comparison.json` and `.csv`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lymphoml.errors import InputError
from lymphoml.evaluation.comparison import compare, smallest_detectable
from lymphoml.evaluation.pairs import SCORES
from lymphoml.evaluation.pooled import pool
from lymphoml.evaluation.selection import Best, best_of
from lymphoml.evaluation.summary import plain
from lymphoml.files import write_csv, write_json
from lymphoml.report.alignment import align
from lymphoml.report.runs import read_run
from lymphoml.report.scores import clinical_account
from lymphoml.report.settings import flatten

PAPER = {"optim": "SGD", "lr": 1e-4, "scheduler": "ExponentialLR"}  # the report's, in a sweep


@dataclass(frozen=True)
class Comparison:
    """`table` has a row a run and score: `run, score, value, low, high`, then of the difference to
    the reference `difference, difference_low, difference_high, p, p_holm, detectable`, NaN in the
    reference's rows. `best` is by score, `detectable` the medians over runs: of one comparison
    planned beforehand, and under Holm's correction for all of them. `clinical` is a line on what
    the clinical values alone reach, `pretraining` by run which images its encoder had seen.
    """

    reference: str
    patients: int
    table: pd.DataFrame
    best: dict[str, Best]
    detectable: dict[str, dict[str, float]]
    clinical: str
    pretraining: dict[str, str]


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
    by_name = {name: models[run.path] for name, run in zip(names, runs, strict=True)}
    differences = compare(labels, by_name, names[0], resamples, seed)
    scores = pd.DataFrame(
        [
            {"run": name, "score": score, **scored[score]}
            for name, run in zip(names, runs, strict=True)
            for scored in [pool(run.predictions, run.config["data"]["folds"], [*SCORES])]
            for score in SCORES
        ]
    )
    differences = differences.rename(
        columns={"model": "run", "value": "difference", "low": "difference_low",
                 "high": "difference_high"}
    )  # fmt: skip
    return Comparison(
        reference=names[0],
        patients=len(labels),
        table=scores.merge(differences, on=["run", "score"], how="left"),
        best=best_of(labels, by_name, resamples, seed),
        detectable=_detectable(differences),
        clinical=clinical_account(runs[0]),
        pretraining={
            name: run.pretraining
            for name, run in zip(names, runs, strict=True)
            if run.pretraining is not None
        },
    )


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """`comparison.json`, everything, and `comparison.csv`, the table, below `folder`."""
    table, content = folder / "comparison.csv", folder / "comparison.json"
    write_csv(table, comparison.table)
    told = {
        "reference": comparison.reference,
        "n_patients": comparison.patients,
        "configurations_tried": comparison.table["run"].nunique(),
        "clinical": comparison.clinical,
        "pretraining": comparison.pretraining,
        "runs": comparison.table.to_dict("records"),
        "smallest_detectable": comparison.detectable,
        "best": {score: best._asdict() for score, best in comparison.best.items()},
    }
    write_json(content, plain(told))
    return [content, table]


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
