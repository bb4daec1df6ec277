"""A run's scores on other cohorts, in the terminal and the report: the run's `validation.json`."""

from collections.abc import Iterable
from typing import Any

import pandas as pd
from rich.table import Table
from scipy.special import logit

from lymphoml.core.errors import printable
from lymphoml.data.persons import UNRECOGNISED
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
    return {
        "title": f"{printable(content['cohort'])} ({content['digest'][:8]})",
        "counts": f"{format_count(content['patients'], 'patient')}, {content['tumoral']} tumoral "
        f"and {content['reactive']} reactive",
        "scores": [*_score_rows(run, content, "all", TITLES), *_score_rows(run, content, "hard")],
        "lines": [*_rule_lines(content["rule"]), *_calibration_lines(run, content),
                  *_notes(content)],
        "reliability": reliability_chart(pd.DataFrame(content["calibration"]["bins"])),
        "decision": decision_chart(pd.DataFrame(content["decision_curve"])),
        "shift": [_shift_row(each) for each in content["shift"]],
    }  # fmt: skip


def _score_rows(
    run: Run, content: dict[str, Any], stratum: str, names: Iterable[str] = HEADLINE
) -> list[tuple[str, Any, Any]]:
    """Title, score of the run and of the cohort; none of a stratum without patients."""
    own, scores = run_scores(run, stratum), content["scores"][stratum] or {}
    among = f", {describe_hard_stratum(run.config, run.metrics['hard_max'])}"
    after = among if stratum == "hard" else ""
    return [(TITLES[name] + after, own.get(name), scores[name]) for name in names if scores]


def _rule_lines(rule: dict[str, Any] | None) -> list[str]:
    if rule is None:
        return ["Rule-out: the run has no rule; python -m lymphoml triage run=RUN sets one."]
    promised, reached = rule["promised"], rule["sensitivity"]
    missed = format_count(rule["missed"], "tumoral patient")
    verdict = "no evidence against the promise"
    if reached["high"] < promised:
        verdict = "the promise is not kept here"
    return [
        f"Rule-out, carried over: sensitivity {format_estimate(reached)}, promised {promised:g} "
        f"{GUARANTEES[rule['guarantee']]}: {verdict}. {missed} missed, {rule['ruled_out']} "
        f"reactive ruled out: specificity {format_estimate(rule['specificity'])}."
    ]


def _calibration_lines(run: Run, content: dict[str, Any]) -> list[str]:
    found, both = content["recalibration"], content["recalibration"]["both"]
    counts = count_patients(run)
    trained = training_prevalence(run, counts["tumoral"] / counts["patients"])
    here = content["tumoral"] / content["patients"]
    expected = format_score(float(logit(here) - logit(trained)), signed=True)
    if both["slope"]["value"] is None:
        return ["Calibration: the probability separates the classes; the slope has no value."]
    return [
        f"Calibration: slope {format_estimate(both['slope'])} (below 1: overconfident), intercept "
        f"{format_estimate(found['intercept'])} (above 0: probabilities are too low), of which "
        f"{expected} follows from the share of tumoral patients: {trained:.2f} in training, as "
        f"weighted there, and {here:.2f} here.",
        f"Recalibration, which nothing applies: logit(p) + a with a = "
        f"{format_estimate(found['intercept'], signed=True)}; or a + b logit(p) with a = "
        f"{format_estimate(both['intercept'], signed=True)}, b = {format_estimate(both['slope'])}. "
        f"Judge a recalibrated model on patients that these numbers do not come from.",
    ]


def _notes(content: dict[str, Any]) -> list[str]:
    persons, outside, notes = content["persons"], content["outside_range"], []
    if outside:
        who = format_count(outside, "patient")
        notes.append(f"{who} outside the training range of a fold: scored, and never ruled out.")
    if persons["several"]:
        who, single = format_count(persons["several"], "person"), content["single_records"]["all"]
        auroc = format_estimate((single or {}).get("auroc"))
        notes.append(f"Of {who} there are several records, which count as patients; without them "
                     f"the AUROC is {auroc}.")  # fmt: skip
    if persons["rule"] is None:
        notes.append(f"{UNRECOGNISED[: UNRECOGNISED.index(' and')]}: each counts as a patient.")
    return notes


def _shift_row(row: dict[str, Any]) -> list[str]:
    """Column, training patients, these, shift, missing here (in training), outside the range."""
    if "shares" in row:
        here, trained = (", ".join(f"{name} {100 * share:.0f} %" for name, share in each.items())
                         for each in (row["shares"], row.get("shares_training", {})))  # fmt: skip
        if row["unseen"]:
            here += f" (not in training: {', '.join(row['unseen'])})"
        shift = ""
    else:
        trained, here = (_middle(row[key]) for key in ("quantiles_training", "quantiles"))
        shift = format_score(row["shift"], signed=True)
    missing = f"{100 * row['missing']:.0f} % ({100 * row['missing_training']:.0f} %)"
    return [
        row["column"].replace("_", " "),
        trained,
        here,
        shift,
        missing,
        "" if row["outside"] is None else str(row["outside"]),
    ]


def _middle(quantiles: list[float] | None) -> str:
    """Median, and what two thirds of the patients lie between."""
    if quantiles is None:
        return "n/a"
    low, median, high = (f"{each:.3g}" for each in quantiles)
    return f"{median} [{low}, {high}]"
