"""The rule-out rule of a run: set from its out-of-fold predictions, written to `triage.json`."""

from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from lymphoml.errors import InputError
from lymphoml.evaluation.conformal import average_size, confident_size, held_out
from lymphoml.evaluation.triage import RANKS, as_plain, assess, difference_spared
from lymphoml.files import write_json
from lymphoml.report.runs import Run, read_run
from lymphoml.report.triage_account import assumptions, print_rule
from lymphoml.runs import read_table
from lymphoml.seen import ACCOUNT
from lymphoml.triage import RULE, fingerprint

BASELINE = "logistic_regression"  # the column of baselines.csv that stands beside the run
SIZES = {"average": average_size, "confidence": confident_size}


def set_rule(
    folder: Path,
    sensitivity: float,
    guarantee: str,
    prevalence: float | None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Write and print the rule of a finished run. Raises InputError for a value out of range."""
    for key, value in (("sensitivity", sensitivity), ("prevalence", prevalence)):
        if value is not None and not 0 < value < 1:
            raise InputError(f"{key}={value}: allowed is above 0 and below 1, 0.95 for instance")
    if guarantee not in RANKS:
        raise InputError(f"guarantee={guarantee}: allowed are {' and '.join(RANKS)}")
    run = read_run(folder)
    rule = make_rule(run, sensitivity, guarantee, prevalence)
    write_json(folder / RULE, rule)
    print_rule(folder, rule, console or Console(soft_wrap=True))
    return rule


def make_rule(
    run: Run, sensitivity: float, guarantee: str, prevalence: float | None
) -> dict[str, Any]:
    """The content of `triage.json`: the rule first, then what it was made from and comes to."""
    patients = held_out(run.predictions)
    tumoral = int(patients["label"].sum())
    ranks = {name: rank(tumoral, sensitivity) for name, rank in RANKS.items()}
    outcomes = {name: assess(patients, rank, prevalence) for name, rank in ranks.items()}
    repeats = int(run.repeat.nunique())
    rule = {
        "sensitivity": sensitivity,
        "guarantee": guarantee,
        "rank": ranks[guarantee],
        "threshold": outcomes[guarantee].threshold,
        "predictions_sha256": fingerprint(run.path),
        "n_tumoral": tumoral,
        "n_reactive": len(patients) - tumoral,
        "n_tumoral_needed": {name: size(sensitivity) for name, size in SIZES.items()},
        "folds": run.config["data"]["folds"],
        "repeats": repeats,
        "prevalence": prevalence,
        ACCOUNT: run.metrics.get(ACCOUNT),
        "outcomes": {name: as_plain(outcome) for name, outcome in outcomes.items()},
        "baseline": _baseline(run, patients, ranks, prevalence),
    }
    return rule | {"assumed": assumptions(rule)}


def _baseline(
    run: Run, patients: pd.DataFrame, ranks: dict[str, int], prevalence: float | None
) -> dict[str, Any] | None:
    path = run.path / "baselines.csv"
    if not path.exists():
        return None
    table = read_table(path)
    if BASELINE not in table:  # no clinical column configured
        return None
    keys = ["patient", "fold"]
    joined = run.predictions.drop(columns="probability").merge(table, on=keys, how="left")
    if len(table) != len(run.predictions) or joined[BASELINE].isna().any():
        raise InputError(
            f"{path}: has other patients or folds than {run.path / 'predictions.csv'}; remove it, "
            f"and run the same train.py command again"
        )
    baseline = held_out(joined.rename(columns={BASELINE: "probability"}))
    return {
        "name": BASELINE,
        "outcomes": {
            name: as_plain(assess(baseline, rank, prevalence)) for name, rank in ranks.items()
        },
        "difference_spared": {
            name: difference_spared(patients, baseline, rank)._asdict()
            for name, rank in ranks.items()
        },
    }
