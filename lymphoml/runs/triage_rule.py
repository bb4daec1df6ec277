"""The rule-out rule of a run folder, `triage.json`, applied to new patients."""

from pathlib import Path
from typing import Any

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.evaluation.rule_out import below_rank
from lymphoml.runs.checksums import read_sealed
from lymphoml.runs.run_folder import read_out_of_fold

RULE = "triage.json"


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
    the new one by the models that held that patient out (`below_rank`, docs/method.md), and the new
    one is ruled out where fewer than `rank` are no higher. A probability is infinite where the new
    patient lies outside the range of a model's training patients: no such one is ruled out.

    A patient of the run, NaN where a model has trained on that person, is judged as those that made
    the rule were: the held-out probability against the threshold.
    """
    predictions = read_out_of_fold(run)
    ruled_out = below_rank(predictions, probabilities) < rule["rank"]
    own = probabilities.isna().any(axis=1)
    limit = float("-inf") if rule["threshold"] is None else rule["threshold"]
    ruled_out[own] = probabilities[own].mean(axis=1) < limit
    return ruled_out.map({True: "rule_out", False: "test"})
