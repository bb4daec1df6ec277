"""The problems of reading a cohort as findings, without birth dates."""

import re

from lymphoml.audit.findings import Finding

# A birth date in another column, where cells have slipped: numbers parted by what parts dates.
DATE = re.compile(r"\d+(?:[-/.\s]+\d+){2,}")


def table_finding(problem: str) -> Finding:
    """A problem's line begins with the place, and ends with what to do."""
    where, _, what = hide_dates(problem).partition(": ")
    what, _, action = what.partition("; ")
    return Finding("error", "table", what, (where,), action)


def hide_dates(text: str) -> str:
    return DATE.sub("(a date)", text)
