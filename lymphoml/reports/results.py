"""The scores of a run and of its baselines, by stratum."""

from typing import Any

import pandas as pd

from lymphoml.evaluation.pooled import split_std
from lymphoml.reports.format import TITLES, baseline_title
from lymphoml.runs.finished_run import Run

Scores = dict[str, dict[str, Any]]  # by measure: value, low, high
STRATA = {"all": "all patients", "hard": "hard stratum"}


def run_scores(run: Run, stratum: str = "all", averaged: bool = False) -> Scores:
    """The run's scores, or of each patient's mean over repeats; empty where there are none."""
    metrics = run.metrics["averaged"] if averaged else run.metrics
    return (metrics and metrics["scores"].get(stratum)) or {}


def without_several_records(run: Run, averaged: bool = False) -> dict[str, dict[str, Any]]:
    """The headline scores without persons of several records, by title; empty where none or all."""
    found = ((run.metrics["averaged"] if averaged else run.metrics) or {}).get("single_records")
    if not found or not found["all"]:
        return {}
    hard = {"AUROC in the hard stratum": found["hard"]["auroc"]} if found["hard"] else {}
    return {TITLES[name]: found["all"][name] for name in ("balanced_accuracy", "auroc")} | hard


def baseline_scores(run: Run, stratum: str = "all") -> dict[str, Scores]:
    """The scores of each baseline, by its column of baselines.csv."""
    baselines = run.metrics["baselines"]
    return {name: scores[stratum] for name, scores in baselines.items() if scores.get(stratum)}


def titled_baselines(run: Run, stratum: str = "all") -> dict[str, Scores]:
    """The scores of each baseline, by title."""
    scores = baseline_scores(run, stratum).items()
    return {baseline_title(name, run.config): values for name, values in scores}


def count_patients(run: Run, among: pd.Index | None = None) -> dict[str, int]:
    """Patients in all or among some, tumoral, reactive, each once."""
    labels = run.predictions.drop_duplicates("patient").set_index("patient")["label"]
    labels = labels if among is None else labels[labels.index.isin(among)]
    tumoral = int((labels == 1).sum())
    return {"patients": len(labels), "tumoral": tumoral, "reactive": len(labels) - tumoral}


def score_std(run: Run, stratum: str, baseline: str | None = None) -> dict[str, float]:
    """The standard deviation over repeats of the run's or a baseline's scores; empty with one."""
    if run.repeat.nunique() < 2:
        return {}
    rows = run.predictions if baseline is None else run.baseline(baseline)
    hard = run.hard_stratum()
    if rows is not None and stratum == "hard":
        rows = None if hard is None else rows[rows["patient"].isin(hard.index[hard])]
    return {} if rows is None else split_std(rows, run.config["data"]["folds"])
