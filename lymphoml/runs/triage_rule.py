"""The rule-out rule of a run folder, `triage.json`, applied to new patients."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.core.files import write_json
from lymphoml.core.untrusted import read_json
from lymphoml.evaluation.rule_out import below_rank
from lymphoml.runs.ensemble import predictions_digest
from lymphoml.runs.run_folder import read_out_of_fold

RULE = "triage.json"


def write_rule(run: Path, rule: dict[str, Any]) -> None:
    """Write the rule, with a digest of itself."""
    write_json(run / RULE, rule | {"sha256": _digest(rule)})


def _digest(rule: dict[str, Any]) -> str:
    return sha256(json.dumps(rule, sort_keys=True).encode()).hexdigest()


def read_rule(run: Path) -> dict[str, Any] | None:
    """Return the content of `triage.json`, None without one.

    Raises InputError where it is damaged, or was made from other predictions.
    """
    path = run / RULE
    if not path.exists():
        return None
    remake = f"make it again with `python -m lymphoml triage run={run}`, or remove it"
    try:
        rule = read_json(path)
        digest, rank, threshold = rule["predictions_sha256"], rule["rank"], rule["threshold"]
        right = type(rank) is int and isinstance(threshold, int | float | None)
        if rule.pop("sha256") != _digest(rule) or not right:
            raise ValueError
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(f"{path} is not a rule of this program; {remake}") from None
    if digest != predictions_digest(run):
        raise InputError(f"{path}: the run's predictions have changed since; {remake}")
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
