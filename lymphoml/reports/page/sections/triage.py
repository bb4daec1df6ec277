"""Whom the model would spare further tests, and what that aims at."""

from collections.abc import Mapping
from typing import Any

from lymphoml.reports.page.choices import Choices
from lymphoml.reports.page.wording import baseline_name
from lymphoml.runs.finished_run import Run
from lymphoml.runs.triage_rule import read_rule

TITLE = "Triage"
GUARANTEES = {"average": "on average", "confidence": "in 95 % of cohorts"}


def content(run: Run, choices: Choices) -> dict[str, Any]:
    """Raises InputError where the run's `triage.json` is damaged or of other predictions."""
    rule = read_rule(run.path)
    if rule is None:
        return {"rule": None}
    baseline = rule.get("baseline")
    return {
        "rule": rule,
        "guarantees": GUARANTEES,
        "outcomes": _by_guarantee(rule),
        "baseline": baseline and baseline_name(baseline["name"]),
        "beside": _by_guarantee(baseline) if baseline else [],
        "differences": [
            (GUARANTEES[key], told)
            for key, told in (baseline or {}).get("specificity_difference", {}).items()
            if rule["outcomes"][key]["rank"] > 0
        ],
    }


def _by_guarantee(source: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    return [(key, GUARANTEES[key], outcome) for key, outcome in source["outcomes"].items()]
