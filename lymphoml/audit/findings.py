"""What an audit reports: findings, without birth dates and without paths outside the cohort."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lymphoml.core.privacy import hide_dates
from lymphoml.data.problems import Problem

SEVERITIES = ("error", "warning", "note")  # in the order of printing
EXIT_CODES = {"error": 2, "warning": 1, "note": 0}


@dataclass(frozen=True)
class Finding:
    """An `error` prevents training, a `warning` needs a person's judgement, a `note` informs.

    `where` lists files below the cohort's root, rows, cells or patients. `what` and `action` name
    no patient, so the HTML report may show them.
    """

    severity: str
    topic: str  # table, image, duplicate, person, date, range, class or shortcut
    what: str
    where: tuple[str, ...] = ()
    action: str = ""


def problem_finding(problem: Problem, root: Path) -> Finding:
    """Return a problem of reading the cohort as a finding; its private part goes to `where`."""
    path, row = problem.place
    table = "data.root" if path == root else below(path, root)
    where = [f"{table}, {row}" if row else table]
    if problem.private:
        private = problem.private
        where.append(below(private, root) if isinstance(private, Path) else private)
    what, *where = map(hide_dates, (problem.what, *where))
    return Finding("error", "table", what, tuple(where), problem.action)


def below(path: Path, root: Path) -> str:
    """Return a path relative to `root`, or its last part where it is elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def exit_code(findings: Iterable[Finding]) -> int:
    """Return the code of the worst severity: 0 clean, 1 warnings, 2 errors."""
    return max((EXIT_CODES[finding.severity] for finding in findings), default=0)


def count(n: int, one: str, many: str = "") -> str:
    """Return `1 image`, `1,000 images`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
