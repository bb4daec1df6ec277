"""Make the rule-out rule of a run from its out-of-fold predictions; print and write it."""

from math import floor
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from lymphoml.core.errors import InputError
from lymphoml.evaluation import rule_out
from lymphoml.reports.format import baseline_title, format_estimate, wide_console
from lymphoml.runs.checksums import PREDICTIONS, write_sealed
from lymphoml.runs.ensemble import predictions_digest
from lymphoml.runs.finished_run import Run, read_run
from lymphoml.runs.triage_rule import RULE

BASELINE = "logistic_regression"
GUARANTEES = {"average": "on average", "confidence": "in 95 % of cohorts"}
ROWS = ("ruled out below probability", "sensitivity on average", "in 95 % of cohorts above",
        "tumoral patients missed", "reactive patients ruled out", "specificity")  # fmt: skip
UNEQUAL = 1.5  # times the fewest tumoral patients of a fold: not the equal folds of the bound
SIZES = {"average": rule_out.average_size, "confidence": rule_out.confident_size}


def set_rule(
    folder: Path, sensitivity: float, guarantee: str, prevalence: float | None,
    console: Console | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write and print the rule of a finished run. Raises InputError for a value out of range."""
    for key, value in (("sensitivity", sensitivity), ("prevalence", prevalence)):
        if value is not None and not 0 < value < 1:
            raise InputError(f"{key}={value}: must be > 0 and < 1, for example 0.95")
    if guarantee not in rule_out.RANKS:
        raise InputError(f"guarantee={guarantee}: must be one of {', '.join(rule_out.RANKS)}")
    run = read_run(folder)
    rule = make_rule(run, sensitivity, guarantee, prevalence)
    write_sealed(folder / RULE, rule)
    print_rule(folder, rule, console or wide_console())
    return rule


def make_rule(
    run: Run, sensitivity: float, guarantee: str, prevalence: float | None
) -> dict[str, Any]:
    """The content of `triage.json`: the rule, then the outcomes it was made from."""
    patients = rule_out.held_out(run.predictions)
    tumoral = int(patients["label"].sum())
    ranks = {name: rank(tumoral, sensitivity) for name, rank in rule_out.RANKS.items()}

    def assess(table: pd.DataFrame) -> dict[str, Any]:
        return {name: rule_out.assess(table, rank, prevalence) for name, rank in ranks.items()}

    outcomes, baseline, rows = assess(patients), None, run.baseline(BASELINE)
    if rows is not None:
        clinical = rule_out.held_out(rows)
        differences = {
            name: rule_out.specificity_difference(patients, clinical, rank)._asdict()
            for name, rank in ranks.items()
            if rank
        }
        baseline = {"name": BASELINE, "outcomes": assess(clinical),
                    "specificity_difference": differences}  # fmt: skip
    rule = {
        "sensitivity": sensitivity, "guarantee": guarantee,
        "rank": ranks[guarantee], "threshold": outcomes[guarantee]["threshold"],
        PREDICTIONS: predictions_digest(run.path),
        "n_tumoral": tumoral, "n_reactive": len(patients) - tumoral,
        "n_tumoral_needed": {name: size(sensitivity) for name, size in SIZES.items()},
        "folds": run.config["data"]["folds"], "repeats": int(run.repeat.nunique()),
        "prevalence": prevalence, "outcomes": outcomes, "baseline": baseline,
    }  # fmt: skip
    data = run.config["data"]
    is_tumoral = run.predictions["label"] == 1
    sizes = is_tumoral.groupby(run.predictions["fold"]).sum()
    given = bool(data.get("site_folds") or data.get("folds_csv", "a path out of the project"))
    return rule | {"assumptions": assumptions(rule, given or sizes.max() > UNEQUAL * sizes.min())}


def assumptions(rule: dict[str, Any], any_folds: bool = False) -> list[str]:
    """What the guarantees assume; docs/method.md derives them.

    `any_folds` are sites or a file's, not drawn at random, or unequal in tumoral patients.
    """
    of = "folds that are not equal or not drawn here" if any_folds else "means over repeats"
    bound = f"no bound is known for {of}"
    if rule["repeats"] == 1 and rule["n_tumoral"] and not any_folds:
        worst = rule_out.worst_average(rule["rank"], rule["n_tumoral"], rule["folds"])
        bound = f"the average sensitivity is at least {_round_down(worst)} (Barber et al. 2021)"
    return [
        "New tumoral patients are exchangeable with these: same referral, smear, stain and camera. "
        "Another hospital needs its own rule.",
        f"Both guarantees (conformal prediction, Clopper-Pearson) are exact for one model fitted "
        f"to other patients and approximate for the {rule['folds']} models of a cross-validation: "
        f"{bound}. predict.py applies the rule per fold model, not to the mean probability.",
        "The number missed follows from the method; it is not an estimate of sensitivity.",
        "These intervals are not valid after choosing the run or the level on the same numbers.",
    ]


def print_rule(folder: Path, rule: dict[str, Any], console: Console) -> None:
    """A table of the run and one of the baseline, a column per guarantee; then the assumptions."""
    console.print(
        f"rule-out at sensitivity {rule['sensitivity']:g}, out of fold, {rule['n_tumoral']} "
        f"tumoral and {rule['n_reactive']} reactive patients, 95 % intervals"
    )
    console.print(_table(str(folder), rule["outcomes"], rule))
    if (baseline := rule["baseline"]) is not None:
        console.print(_table(baseline_title(baseline["name"]), baseline["outcomes"], rule))
        for guarantee, difference in baseline["specificity_difference"].items():
            what = f"Specificity minus the baseline's, {GUARANTEES[guarantee]}"
            text = format_estimate(difference, signed=True)
            console.print(f"{what}: {text} (paired)", markup=False)
    for line in rule["assumptions"]:
        console.print(f"- {line}", markup=False)
    suffix = "; it rules out no one" if rule["threshold"] is None else ""
    console.print(f"{folder / RULE}: guarantee={rule['guarantee']}, for predict.py{suffix}")


def _table(title: str, outcomes: dict[str, Any], rule: dict[str, Any]) -> Table:
    table = Table("", *(f"sensitivity {GUARANTEES[guarantee]}" for guarantee in outcomes),
                  title=title, title_justify="left")  # fmt: skip
    rows = [*ROWS]
    if rule["prevalence"] is not None:
        rows.append(f"negative predictive value at prevalence {rule['prevalence']}")
    cells = [_cells(outcome, rule, guarantee) for guarantee, outcome in outcomes.items()]
    for row in zip(rows, *cells, strict=False):
        table.add_row(*row)
    return table


def _cells(outcome: dict[str, Any], rule: dict[str, Any], guarantee: str) -> list[str]:
    if outcome["rank"] == 0:
        return [f"no one: needs {rule['n_tumoral_needed'][guarantee]} tumoral patients", *[""] * 6]
    return [
        f"{outcome['threshold']:.4f}",
        _round_down(outcome["average_sensitivity"]),
        _round_down(outcome["sensitivity_bound"]),
        f"{outcome['missed']} of {rule['n_tumoral']}",
        f"{outcome['ruled_out']} of {rule['n_reactive']}",
        format_estimate(outcome["specificity"]),
        format_estimate(outcome["negative_predictive_value"]),
    ]


def _round_down(bound: float) -> str:
    """A guarantee is never rounded up."""
    return f"{floor(bound * 1000) / 1000:.3f}"
