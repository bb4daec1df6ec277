"""The rule-out rule of a run folder, `triage.json`, applied to new patients."""

from math import inf, isinf
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.evaluation.cross_conformal import Scores, ruled_out, tumoral_scores
from lymphoml.runs.checksums import read_sealed
from lymphoml.runs.run_folder import read_out_of_fold

RULE = "triage.json"
SHARED = ("sensitivity", "guarantee", "rank", "threshold", "n_tumoral", "n_reactive", "folds",
          "repeats", "prevalence", "outcomes", "assumptions")  # fmt: skip


def read_rule(run: Path) -> dict[str, Any] | None:
    """Return the content of `triage.json`, None without one. See `read_sealed`."""
    rule = read_sealed(run / RULE, "triage")
    numbers = rule is None or isinstance(rule.get("threshold", ""), float | None)
    if rule and not (numbers and type(rule.get("rank")) is int):
        raise InputError(f"{run / RULE} has no rank or threshold; remove it")
    return rule


def apply_rule(run: Path, rule: dict[str, Any], probabilities: pd.DataFrame) -> pd.Series:
    """Return `rule_out` or `test` for each patient (row), by each fold's model (column).

    The mean of a new patient's probabilities is less extreme than a held-out one, and each model
    has a level of its own. So each tumoral patient of the run is compared with the probabilities of
    the new one by the models that held that patient out (docs/method.md), and the new one is ruled
    out where fewer than `rank` are no higher. A probability is infinite where the new patient lies
    outside the range of a model's training patients: no such one is ruled out.

    A patient of the run, NaN where a model has trained on that person, is judged as those that made
    the rule were: the held-out probability against the threshold.
    """
    scores = tumoral_scores(read_out_of_fold(run))
    found = ruled_out(scores, probabilities, rule["rank"])
    own = probabilities.isna().any(axis=1)
    limit = float("-inf") if rule["threshold"] is None else rule["threshold"]
    found[own] = probabilities[own].mean(axis=1) < limit
    return found.map({True: "rule_out", False: "test"})


def portable_rule(run: Path) -> dict[str, Any] | None:
    """Return the rule as it can leave the run, None without one: patients' scores without ids.

    Of tumoral patients that the same folds held out only the `rank` lowest scores matter; a score
    is None where it is infinite.
    """
    if (rule := read_rule(run)) is None:
        return None
    scores = tumoral_scores(read_out_of_fold(run))
    lowest = [
        {"folds": [*folds], "scores": [None if isinf(each) else each for each in values.tolist()]}
        for folds, values in ((each, scores[each][: rule["rank"]]) for each in sorted(scores))
    ]
    return {key: rule[key] for key in SHARED if key in rule} | {"lowest": lowest}


def apply_portable(rule: dict[str, Any], probabilities: pd.DataFrame) -> pd.Series:
    """Return what `apply_rule` does of a `portable_rule`; no patient is of the run."""
    scores: Scores = {
        tuple(each["folds"]): np.array([inf if one is None else one for one in each["scores"]])
        for each in rule["lowest"]
    }
    return ruled_out(scores, probabilities, rule["rank"]).map({True: "rule_out", False: "test"})
