"""A run's scores on other cohorts, in the terminal and the report: the run's `validation.json`."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich.table import Table
from scipy.special import logit

from lymphoml.core.errors import printable
from lymphoml.evaluation.rule_out import chance_of_missing
from lymphoml.evaluation.summary import HEADLINE
from lymphoml.reports.format import (
    TITLES,
    describe_hard_stratum,
    format_count,
    format_estimate,
    format_p,
    format_score,
    wide_console,
)
from lymphoml.reports.page import Choices
from lymphoml.reports.page.curves import decision_chart, reliability_chart, training_prevalence
from lymphoml.reports.results import count_patients, run_scores
from lymphoml.reports.triage import GUARANTEES
from lymphoml.runs.checksums import read_sealed, write_sealed
from lymphoml.runs.finished_run import Run
from lymphoml.runs.triage_rule import read_rule

VALIDATION = "validation.json"
NOT_KEPT = 0.025  # one-sided, as the 95 % intervals are


def read_validation(run: Run) -> list[dict[str, Any]]:
    """Return what `validate` found of each cohort. Raises InputError for a damaged file."""
    return (read_sealed(run.path / VALIDATION, "validate") or {"cohorts": []})["cohorts"]


def write_validation(run: Run, earlier: list[dict[str, Any]], content: dict[str, Any]) -> None:
    """Write a cohort's validation behind `earlier` ones, or in the place of its own; print it."""
    others = [each for each in earlier if each["digest"] != content["digest"]]
    write_sealed(run.path / VALIDATION, {"cohorts": [*others, content]})
    found, console = describe(run, content), wide_console()
    table = Table("", f"{found['own']} \\[95 %]", f"cohort {content['cohort']} \\[95 %]",
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
    averaged = run.metrics["averaged"] is not None  # the mean over all models is scored here
    return {
        "title": f"{printable(content['cohort'])} ({content['digest'][:8]})",
        "counts": f"{format_count(content['patients'], 'patient')}, {content['tumoral']} tumoral "
        f"and {content['reactive']} reactive",
        "own": f"out of fold{', mean over repeats' if averaged else ''}",
        "scores": [(TITLES[name] + after, run_scores(run, stratum, averaged).get(name),
                    scores[name])
                   for stratum, names, after in (("all", TITLES, ""), ("hard", HEADLINE, hard))
                   if (scores := content["scores"][stratum]) for name in names],
        "lines": [_rule_line(run, content), *_calibration_lines(run, content), *_notes(content)],
        "reliability": reliability_chart(pd.DataFrame(content["calibration"]["bins"])),
        "decision": decision_chart(pd.DataFrame(content["decision_curve"])),
        "shift": [_shift_row(each) for each in content["shift"]],
    }  # fmt: skip


def _rule_line(run: Run, content: dict[str, Any]) -> str:
    rule, current = content["rule"], read_rule(run.path)
    judged = rule and [rule[key] for key in ("promised", "guarantee", "threshold")]
    if judged != (current and [current[key] for key in ("sensitivity", "guarantee", "threshold")]):
        return "Rule-out: the run's rule is not the one that was judged here; validate again."
    if rule is None or current is None:
        return (
            "Rule-out: the run has no rule; python -m lymphoml triage run=RUN sets one, which "
            "validate then judges."
        )
    promise, guarantee = rule["promised"], rule["guarantee"]
    rank, n = current["rank"], current["n_tumoral"]
    chance = chance_of_missing(rule["missed"], content["tumoral"], guarantee, promise, rank, n)
    kept = chance > NOT_KEPT
    return (
        f"Rule-out, carried over: sensitivity {format_estimate(rule['sensitivity'])}, promised "
        f"{promise:g} {GUARANTEES[guarantee]}: "
        f"{'no evidence against the promise' if kept else 'the promise is not kept here'} (p of "
        f"so many missed: {format_p(chance)}). "
        f"{format_count(rule['missed'], 'tumoral patient')} missed, {rule['ruled_out']} reactive "
        f"ruled out: specificity {format_estimate(rule['specificity'])}."
    )


def _calibration_lines(run: Run, content: dict[str, Any]) -> list[str]:
    intercept, both = (content["calibration"][key] for key in ("intercept", "both"))
    counts, here = count_patients(run), content["tumoral"] / content["patients"]
    trained = training_prevalence(run, counts["tumoral"] / counts["patients"])
    expected = format_score(float(logit(here) - logit(trained)), signed=True)
    alone, with_slope = (format_estimate(each, True) for each in (intercept, both["intercept"]))
    slope = f"slope {format_estimate(both['slope'])} (below 1: overconfident)"
    if undefined := both["slope"]["value"] is None:
        auroc = content["scores"]["all"]["auroc"]["value"]
        why = "is the same for all" if auroc == 0.5 else "separates the classes"
        slope = f"no slope, since the probability {why}{' in reverse' if auroc < 0.5 else ''}"
    line = (
        f"Calibration: {slope}, intercept {alone} (above 0: "
        f"probabilities are too low), of which {expected} follows from the share of tumoral "
        f"patients: {trained:.2f} in training, as weighted there, and {here:.2f} here."
    )
    if undefined:
        return [line]
    return [
        line,
        f"Recalibration, which nothing applies: logit(p) + a with a = {alone}; or a + b logit(p) "
        f"with a = {with_slope}, b = {format_estimate(both['slope'])}. Judge a recalibrated model "
        f"on patients that these numbers do not come from.",
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
