"""The rule-out rule of a run folder, `triage.json`, and what it says of new patients."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import read_json
from lymphoml.evaluation.rule_out import below_rank
from lymphoml.runs.run_folder import read_table

RULE = "triage.json"


def fingerprint(run: Path) -> str:
    """Of the out-of-fold predictions that a rule rests on."""
    return sha256((run / "predictions.csv").read_bytes()).hexdigest()


def read_rule(run: Path) -> dict[str, Any] | None:
    """The content of `triage.json`; None without one.

    Raises InputError where it cannot be read, or was made from other predictions.
    """
    path = run / RULE
    if not path.exists():
        return None
    again = f"make it again with `python -m lymphoml triage run={run}`, or remove it"
    try:
        rule = read_json(path)
        known = rule["predictions_sha256"], rule["rank"], rule["threshold"]
        if type(known[1]) is not int or not isinstance(known[2], int | float | None):
            raise ValueError
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(f"{path}: is no rule of this program; {again}") from None
    if known[0] != fingerprint(run):
        raise InputError(f"{path}: the run's predictions have changed since; {again}")
    return rule


def apply_rule(run: Path, rule: dict[str, Any], probabilities: pd.DataFrame) -> pd.Series:
    """`rule_out` or `test` for each patient (row), from the probability by each fold's model (column).

    The threshold was made for held-out probabilities, each by one model, and a new patient has as
    many as there are folds. Their mean is less extreme than any, and each model has a level of its
    own. So the threshold is not held against the mean: each tumoral patient of the run is compared
    with what the models that held that patient out say of the new one, and the new one is spared
    where fewer than `rank` are no higher (`below_rank`). This keeps a bound (`worst_average`). On
    simulated cohorts of 113 and 50 at level 0.95, five models of two inputs and levels that differ
    by a logit (tests/evaluation/test_conformal.py), it reaches sensitivity 0.956 and spares 0.74;
    mean below threshold 0.969 and 0.67; all models below it 0.987 and 0.51.

    A patient whom the run knows, blank where a model has trained on that person, is judged as those
    that made the rule were: the held-out probability against the threshold.
    """
    predictions = read_table(run / "predictions.csv")
    spared = below_rank(predictions, probabilities) < rule["rank"]
    own = probabilities.isna().any(axis=1)
    limit = float("-inf") if rule["threshold"] is None else rule["threshold"]
    spared[own] = probabilities[own].mean(axis=1) < limit
    return spared.map({True: "rule_out", False: "test"})
