"""What the audit of the cohort found: how many findings of which severity, and what they are."""

from collections import Counter
from typing import Any

from lymphoml.core.errors import InputError
from lymphoml.reports.page.choices import Choices
from lymphoml.runs.finished_run import Run, read_mapping
from lymphoml.runs.provenance import data_fingerprints

TITLE = "Audit of the data"
SHOWN = 30


def content(run: Run, choices: Choices) -> dict[str, Any]:
    """What was found, never where: that names patients, also those of the test set.

    Raises InputError where `choices.audit` is no audit, or one of another cohort.
    """
    if choices.audit is None:
        return {"audited": False}
    told = read_mapping(choices.audit)
    findings = told.get("findings")
    if not isinstance(findings, list) or not all(isinstance(each, dict) for each in findings):
        raise InputError(f"audit={choices.audit}: no list of findings; give an audit.json")
    checked = _same_cohort(run, told.get("fingerprint"))
    if checked is False:
        raise InputError(
            f"audit={choices.audit}: an audit of another cohort than the run's; audit again with "
            f"the run's data.root and columns"
        )
    severities = Counter(str(each.get("severity", "not told")) for each in findings)
    titles = Counter(
        (
            str(each.get("severity", "not told")),
            str(each.get("topic", "")),
            str(each.get("what", "")),
        )
        for each in findings
    )
    rows = sorted(titles.items(), key=lambda pair: _order(pair[0][0]))
    return {
        "audited": True,
        "checked": checked is not None,
        "severities": sorted(severities.items(), key=lambda pair: _order(pair[0])),
        "rows": [(*finding, count) for finding, count in rows[:SHOWN]],
        "more": max(0, len(rows) - SHOWN),
    }


def _same_cohort(run: Run, fingerprint: object) -> bool | None:
    """None where the audit or the run does not tell."""
    known = data_fingerprints(run.environment)[-1]
    if not fingerprint or not known:
        return None
    return str(known).startswith(str(fingerprint))


def _order(severity: str) -> tuple[int, str]:
    known = ("error", "warning", "note", "info", "ok")
    return (known.index(severity) if severity in known else len(known)), severity
