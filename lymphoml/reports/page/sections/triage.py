"""The rule-out rule: which patients would need no flow cytometry."""

from typing import Any

from lymphoml.reports.format import baseline_title
from lymphoml.reports.page.sections import Choices
from lymphoml.reports.triage import GUARANTEES
from lymphoml.runs.finished_run import Run
from lymphoml.runs.triage_rule import read_rule

TITLE = "Triage"


def content(run: Run, choices: Choices) -> dict[str, Any]:
    """Raises InputError where `triage.json` is corrupt or was made of other predictions."""
    rule = read_rule(run.path)
    if rule is None:
        return {"rule": None}
    tables, baseline = [("This run", rule["outcomes"])], rule.get("baseline")
    differences = {}
    if baseline:
        tables.append((baseline_title(baseline["name"]).capitalize(), baseline["outcomes"]))
        differences = {
            GUARANTEES[guarantee]: difference
            for guarantee, difference in baseline["specificity_difference"].items()
            if rule["outcomes"][guarantee]["rank"] > 0
        }
    return {
        "rule": rule,
        "guarantees": GUARANTEES,
        "tables": tables,
        "differences": differences,
    }
