"""The rule-out rule of a run: set from its out-of-fold predictions, written to `triage.json`."""

from math import floor
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from lymphoml.core.errors import InputError
from lymphoml.core.files import write_json
from lymphoml.evaluation.rule_out import (
    RANKS,
    assess,
    average_size,
    confident_size,
    held_out,
    specificity_difference,
    worst_average,
)
from lymphoml.runs.ensemble import predictions_digest
from lymphoml.runs.finished_run import Run, read_run
from lymphoml.runs.tables import read_predictions_csv
from lymphoml.runs.triage_rule import RULE

# A rule-out rule told in the terminal: what it does, what it aims at, what that rests on.

KINDS = {"average": "on average", "confidence": "in 95 % of cohorts"}


def assumptions(rule: dict[str, Any]) -> list[str]:
    folds, rank, n = rule["folds"], rule["rank"], rule["n_tumoral"]
    if rule["repeats"] == 1 and n:
        bound = (
            f"however they differ, the average sensitivity is, with folds of equal size, at least "
            f"{_down(worst_average(rank, n, folds))} (Barber et al. 2021)"
        )
    else:
        bound = "no bound is known for means over repeats"
    return [
        "New tumoral patients are exchangeable with these: referred, smeared, stained and imaged "
        "alike. Another hospital needs a rule of its own.",
        "On average, nominally: over cohorts like this one and the patient to come, not for this "
        "threshold. In 95 % of cohorts, nominally: one-sided Clopper-Pearson for the patients "
        "below the threshold, exact also for a threshold from the same patients, being an order "
        "statistic of fixed rank (Wilks 1941).",
        f"Both are exact for one model fitted on other patients. Here {folds} models of a "
        f"cross-validation take part, which makes them approximate (cross-conformal, Vovk 2015): "
        f"{bound}.",
        "predict.py therefore compares new and held-out patients model by model; their mean over "
        "models is not held against this threshold.",
        "The tumoral patients missed are so many by construction: no evidence of anything.",
        "The intervals hold for one rule: whoever picks the run or the level by these numbers, "
        "flatters both. A prevalence is taken as known.",
    ]


def print_rule(folder: Path, rule: dict[str, Any], console: Console) -> None:
    """A table of the run and one of the baseline, a column a guarantee; then what it rests on."""
    n = rule["n_tumoral"]
    console.print(
        f"rule-out at sensitivity {rule['sensitivity']:g}, out of fold, {n} tumoral and "
        f"{rule['n_reactive']} reactive patients, 95 % intervals"
    )
    console.print(_table(str(folder), rule, rule))
    if rule["baseline"] is not None:
        console.print(_table("logistic regression on the clinical values", rule["baseline"], rule))
    for kind, size in rule["n_tumoral_needed"].items():
        if rule["outcomes"][kind]["rank"] == 0:
            console.print(
                f"Abstains: with {n} tumoral patients no threshold keeps {rule['sensitivity']:g} "
                f"{KINDS[kind]}; it would need {size}."
            )
    if rule["baseline"] is not None:
        for kind, difference in rule["baseline"]["specificity_difference"].items():
            if rule["outcomes"][kind]["rank"] == 0:
                continue
            console.print(
                f"Share spared beyond that of the logistic regression, {KINDS[kind]}: "
                f"{_estimate(difference, '+.2f')} (paired bootstrap of patients)"
            )
    for line in rule["assumed"]:
        console.print(f"- {line}", markup=False)
    if rule["prevalence"] is None:
        console.print("- prevalence=... gives the predictive value (negative) where it is used.")
    console.print(
        f"{folder / 'triage.json'}: the rule `{rule['guarantee']}`, for predict.py"
        + ("; it spares nobody" if rule["threshold"] is None else "")
    )


def _table(title: str, source: dict[str, Any], rule: dict[str, Any]) -> Table:
    table = Table("", *(f"sensitivity {KINDS[kind]}" for kind in source["outcomes"]),
                  title=title, title_justify="left")  # fmt: skip
    rows = ["spared below probability", "sensitivity on average", "in 95 % of cohorts above",
            "tumoral patients missed", "reactive patients spared", "their share"]  # fmt: skip
    if rule["prevalence"] is not None:
        rows.append(f"negative predictive value at {rule['prevalence']:g}")
    columns = [_cells(outcome, rule) for outcome in source["outcomes"].values()]
    for row in zip(rows, *columns, strict=False):  # the last cell is left out with its name
        table.add_row(*row)
    return table


def _cells(outcome: dict[str, Any], rule: dict[str, Any]) -> list[str]:
    if outcome["rank"] == 0:
        return ["nobody", "1", "1", "0", "0", "0", "-"]
    return [
        f"{outcome['threshold']:.4f}",
        _down(outcome["average_sensitivity"]),
        _down(outcome["sensitivity_bound"]),
        f"{outcome['missed']} of {rule['n_tumoral']}",
        f"{outcome['ruled_out']} of {rule['n_reactive']}",
        _estimate(outcome["specificity"], ".2f"),
        _estimate(outcome["negative_predictive_value"], ".3f"),
    ]


def _down(bound: float) -> str:
    """What is promised is never rounded up."""
    return f"{floor(bound * 1000) / 1000:.3f}"


def _estimate(value: dict[str, float] | None, form: str) -> str:
    if value is None:
        return "-"
    return f"{value['value']:{form}} [{value['low']:{form}}, {value['high']:{form}}]"


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
        "predictions_sha256": predictions_digest(run.path),
        "n_tumoral": tumoral,
        "n_reactive": len(patients) - tumoral,
        "n_tumoral_needed": {name: size(sensitivity) for name, size in SIZES.items()},
        "folds": run.config["data"]["folds"],
        "repeats": repeats,
        "prevalence": prevalence,
        "outcomes": {name: outcome.to_json() for name, outcome in outcomes.items()},
        "baseline": _baseline(run, patients, ranks, prevalence),
    }
    return rule | {"assumed": assumptions(rule)}


def _baseline(
    run: Run, patients: pd.DataFrame, ranks: dict[str, int], prevalence: float | None
) -> dict[str, Any] | None:
    path = run.path / "baselines.csv"
    if not path.exists():
        return None
    table = read_predictions_csv(path, ["patient", "fold"])
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
            name: assess(baseline, rank, prevalence).to_json() for name, rank in ranks.items()
        },
        "specificity_difference": {
            name: specificity_difference(patients, baseline, rank)._asdict()
            for name, rank in ranks.items()
        },
    }
