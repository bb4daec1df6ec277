"""Findings of the cohort's audit, counted."""

from collections import Counter
from typing import Any

from lymphoml.core.errors import InputError
from lymphoml.reports.page.sections import Choices
from lymphoml.runs.finished_run import Run, read_mapping
from lymphoml.runs.provenance import data_fingerprints

TITLE = "Audit of the data"
MAX_SHOWN = 30
SEVERITIES = ("error", "warning", "note", "info", "ok")


def content(run: Run, choices: Choices) -> dict[str, Any]:
    """What was found, without where: that would name patients, also of the test set.

    Raises InputError where `choices.audit` is no audit, or one of another cohort.
    """
    if choices.audit is None:
        return {"audited": False}
    audit = read_mapping(choices.audit)
    findings = audit.get("findings")
    if not isinstance(findings, list) or not all(isinstance(each, dict) for each in findings):
        raise InputError(f"audit={choices.audit}: no list of findings; give an audit.json")
    known, fingerprint = data_fingerprints(run.environment)[-1], audit.get("fingerprint")
    comparable = bool(known and fingerprint)
    if comparable and not str(known).startswith(str(fingerprint)):
        raise InputError(
            f"audit={choices.audit}: an audit of another cohort than the run's; audit again with "
            f"the run's data.root and columns"
        )
    rows = Counter(
        (
            str(each.get("severity", "unknown")),
            str(each.get("topic", "")),
            str(each.get("what", "")),
        )
        for each in findings
    )
    severities: Counter[str] = Counter()
    for (severity, _, _), count in rows.items():
        severities[severity] += count
    ordered = sorted(rows.items(), key=lambda pair: _order(pair[0][0]))
    return {
        "audited": True,
        "same_cohort_checked": comparable,
        "severities": sorted(severities.items(), key=lambda pair: _order(pair[0])),
        "rows": [(*finding, count) for finding, count in ordered[:MAX_SHOWN]],
        "more": max(0, len(ordered) - MAX_SHOWN),
    }


def _order(severity: str) -> tuple[int, str]:
    known = SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
    return known, severity
