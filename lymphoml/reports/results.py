"""Collect the scores of runs and of their baselines, as mappings and as one tidy table."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from lymphoml.evaluation.pooled import split_std
from lymphoml.reports.format import baseline_title
from lymphoml.reports.optional_files import read_baseline, read_hard_stratum
from lymphoml.runs.finished_run import Run

Scores = dict[str, dict[str, Any]]  # by measure: value, low, high
STRATA = {"all": "all patients", "hard": "hard stratum"}
COLUMNS = ["run", "baseline", "stratum", "score", "value", "low", "high", "std"]


def run_scores(run: Run, stratum: str = "all") -> Scores:
    """The run's scores; empty where no patient is in the stratum."""
    return run.metrics["scores"].get(stratum) or {}


def averaged_scores(run: Run, stratum: str = "all") -> Scores:
    """Scores of each patient's mean probability over repeats; empty with one repeat."""
    return ((run.metrics.get("averaged") or {}).get("scores") or {}).get(stratum) or {}


def baseline_scores(run: Run, stratum: str = "all") -> dict[str, Scores]:
    """The scores of each baseline, by its column of baselines.csv."""
    baselines = run.metrics["baselines"]
    return {name: scores[stratum] for name, scores in baselines.items() if scores.get(stratum)}


def titled_baselines(run: Run, stratum: str = "all") -> dict[str, Scores]:
    """The scores of each baseline, by title."""
    return {
        baseline_title(name, run.config): scores
        for name, scores in baseline_scores(run, stratum).items()
    }


def count_patients(run: Run) -> dict[str, int]:
    """Patients in all, tumoral, reactive, each once."""
    labels = run.predictions.drop_duplicates("patient")["label"]
    tumoral = int((labels == 1).sum())
    return {"patients": len(labels), "tumoral": tumoral, "reactive": len(labels) - tumoral}


def results_table(runs: Mapping[str, Run]) -> pd.DataFrame:
    """One row per model, stratum and score: run, baseline, stratum, score, value, low, high, std.

    `runs` are by name, the best first. Rows of a run have no `baseline`; those of a baseline, of
    the first run that has any, have no `run`. `std` is over the repeats of the cross-validation,
    NaN with one repeat.
    """
    rows = [row for name, run in runs.items() for row in _rows(run, {"run": name})]
    if (first := first_with_baselines(runs.values())) is not None:
        for name in first.metrics["baselines"]:
            rows += _rows(first, {"baseline": name})
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype(dict.fromkeys(("value", "low", "high", "std"), float))


def first_with_baselines(runs: Iterable[Run]) -> Run | None:
    return next((run for run in runs if run.metrics["baselines"]), None)


def _rows(run: Run, model: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The rows of the run, or of the `baseline` that `model` names."""
    baseline = model.get("baseline")
    for stratum in STRATA:
        if baseline is None:
            scores = run_scores(run, stratum)
        else:
            scores = baseline_scores(run, stratum).get(baseline, {})
        std = _std(run, baseline, stratum) if scores else {}
        for score, values in scores.items():
            yield {**model, "stratum": stratum, "score": score, **values, "std": std.get(score)}


def runs_with_other_baselines(runs: Mapping[str, Run], first: Run) -> list[str]:
    """The runs whose baselines score otherwise than those of `first`: they had other data."""

    def values(run: Run) -> dict[str, tuple[Any, Any]]:
        return {
            name: (scores["balanced_accuracy"]["value"], scores["auroc"]["value"])
            for name, scores in baseline_scores(run).items()
        }

    known = values(first)
    return [
        name
        for name, run in runs.items()
        if any(known.get(baseline, pair) != pair for baseline, pair in values(run).items())
    ]


def _std(run: Run, baseline: str | None, stratum: str) -> dict[str, float]:
    """The standard deviation of scores over repeats; empty with one repeat."""
    if run.repeat.nunique() < 2:
        return {}
    rows = run.predictions if baseline is None else read_baseline(run, baseline)
    if rows is None:
        return {}
    if stratum == "hard":
        hard = read_hard_stratum(run)
        if hard is None:
            return {}
        rows = rows[rows["patient"].isin(hard.index[hard])]
    return split_std(rows, run.config["data"]["folds"])
