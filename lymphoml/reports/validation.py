"""A run's scores on other cohorts, in the terminal and the report: the run's `validation.json`."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich.table import Table
from scipy.special import logit

from lymphoml.core.errors import printable
from lymphoml.evaluation.summary import HEADLINE
from lymphoml.reports.format import (
    TITLES,
    describe_hard_stratum,
    format_count,
    format_estimate,
    format_score,
    wide_console,
)
from lymphoml.reports.page import Choices
from lymphoml.reports.page.curves import decision_chart, reliability_chart, training_prevalence
from lymphoml.reports.results import count_patients, run_scores
from lymphoml.reports.triage import GUARANTEES
from lymphoml.runs.checksums import read_sealed, write_sealed
from lymphoml.runs.finished_run import Run

VALIDATION = "validation.json"


def read_validation(run: Run) -> list[dict[str, Any]]:
    """Return what `validate` found of each cohort. Raises InputError for a damaged file."""
    return (read_sealed(run.path / VALIDATION, "validate") or {"cohorts": []})["cohorts"]


def write_validation(run: Run, earlier: list[dict[str, Any]], content: dict[str, Any]) -> None:
    """Write a cohort's validation behind `earlier` ones, or in the place of its own; print it."""
    others = [each for each in earlier if each["digest"] != content["digest"]]
    write_sealed(run.path / VALIDATION, {"cohorts": [*others, content]})
    found, console = describe(run, content), wide_console()
    table = Table("", "out of fold \\[95 %]", f"cohort {content['cohort']} \\[95 %]",
                  title=found["counts"], title_justify="left")  # fmt: skip
    for title, own, other in found["scores"]:
        table.add_row(title, *(format_estimate(each).replace("[", "\\[") for each in (own, other)))
    console.print(table)
    for line in found["lines"]:
        console.print(line, markup=False)
    print(run.path / VALIDATION)


def section(run: Run, choices: Choices) -> dict[str, Any]:
    """The section of the report; empty where no cohort validates the run."""
    found = [describe(run, each) for each in read_validation(run)]
    return {"cohorts": found} if found else {}


def describe(run: Run, content: dict[str, Any]) -> dict[str, Any]:
    """Title, counts and lines as text; scores beside the run's own; charts; rows of the shift."""
    hard = f", {describe_hard_stratum(run.config, run.metrics['hard_max'])}"
    return {
        "title": f"{printable(content['cohort'])} ({content['digest'][:8]})",
        "counts": f"{format_count(content['patients'], 'patient')}, {content['tumoral']} tumoral "
        f"and {content['reactive']} reactive",
        "scores": [(TITLES[name] + after, run_scores(run, stratum).get(name), scores[name])
                   for stratum, names, after in (("all", TITLES, ""), ("hard", HEADLINE, hard))
                   if (scores := content["scores"][stratum]) for name in names],
        "lines": [_rule_line(content["rule"]), *_calibration_lines(run, content),
                  *_notes(content)],
        "reliability": reliability_chart(pd.DataFrame(content["calibration"]["bins"])),
        "decision": decision_chart(pd.DataFrame(content["decision_curve"])),
        "shift": [_shift_row(each) for each in content["shift"]],
    }  # fmt: skip


def _rule_line(rule: dict[str, Any] | None) -> str:
    if rule is None:
        return "Rule-out: the run has no rule; python -m lymphoml triage run=RUN sets one."
    kept = rule["sensitivity"]["high"] >= rule["promised"]
    return (
        f"Rule-out, carried over: sensitivity {format_estimate(rule['sensitivity'])}, promised "
        f"{rule['promised']:g} {GUARANTEES[rule['guarantee']]}: "
        f"{'no evidence against the promise' if kept else 'the promise is not kept here'}. "
        f"{format_count(rule['missed'], 'tumoral patient')} missed, {rule['ruled_out']} reactive "
        f"ruled out: specificity {format_estimate(rule['specificity'])}."
    )


def _calibration_lines(run: Run, content: dict[str, Any]) -> list[str]:
    intercept, both = (content["calibration"][key] for key in ("intercept", "both"))
    if both["slope"]["value"] is None:
        return ["Calibration: the probability separates the classes; the slope has no value."]
    counts, here = count_patients(run), content["tumoral"] / content["patients"]
    trained = training_prevalence(run, counts["tumoral"] / counts["patients"])
    expected = format_score(float(logit(here) - logit(trained)), signed=True)
    alone, with_slope = (format_estimate(each, True) for each in (intercept, both["intercept"]))
    slope = format_estimate(both["slope"])
    return [
        f"Calibration: slope {slope} (below 1: overconfident), intercept {alone} (above 0: "
        f"probabilities are too low), of which {expected} follows from the share of tumoral "
        f"patients: {trained:.2f} in training, as weighted there, and {here:.2f} here.",
        f"Recalibration, which nothing applies: logit(p) + a with a = {alone}; or a + b logit(p) "
        f"with a = {with_slope}, b = {slope}. Judge a recalibrated model on patients that these "
        f"numbers do not come from.",
    ]


def _notes(content: dict[str, Any]) -> Iterator[str]:
    persons = content["persons"]
    if outside := content["outside_range"]:
        who = format_count(outside, "patient")
        yield f"{who} outside the training range of a fold: scored, and never ruled out."
    if persons["rule"] is None:
        yield "Persons cannot be recognised: each record counts as a patient."
    if persons["several"]:
        who, single = format_count(persons["several"], "person"), content["single_records"]["all"]
        without = format_estimate(single and single["auroc"])
        yield f"Of {who} there are several records, each a patient; AUROC without them {without}."


def _shift_row(row: dict[str, Any]) -> list[str]:
    """Column, training patients, these, shift, missing here (in training), outside the range."""
    name = row["column"].replace("_", " ")
    if "shares" in row:
        texts = (", ".join(f"{value} {100 * share:.0f} %" for value, share in row[key].items())
                 for key in ("shares_training", "shares"))  # fmt: skip
        return [name, *texts, "", "", ""]
    middles = ("{1:.3g} [{0:.3g}, {2:.3g}]".format(*row[key]) if row[key] else "n/a"
               for key in ("quantiles_training", "quantiles"))  # fmt: skip
    missing = f"{100 * row['missing']:.0f} % ({100 * row['missing_training']:.0f} %)"
    return [name, *middles, format_score(row["shift"], True), missing, str(row["outside"])]
