"""The problems of reading a cohort as findings, without birth dates and the machine's paths."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lymphoml.core.privacy import hide_dates
from lymphoml.data.problems import Problem

# What an audit found: a severity, and what, where and what to do.

SEVERITIES = ("error", "warning", "note")  # in the order of showing
EXIT_CODES = {"error": 2, "warning": 1, "note": 0}


@dataclass(frozen=True)
class Finding:
    """An `error` keeps lymphoml from training, a `warning` wants a person's look, a `note` tells.

    `where` names files below the cohort's root, rows, cells or patients, all of them; `what` and
    `action` name nobody, so that `what` can be shown to others.
    """

    severity: str
    topic: str  # table, image, duplicate, person, date, range, class or shortcut
    what: str
    where: tuple[str, ...] = ()
    action: str = ""


def exit_code(findings: Iterable[Finding]) -> int:
    """Of the gravest: 0 clean, 1 warnings, 2 errors."""
    return max((EXIT_CODES[finding.severity] for finding in findings), default=0)


def count(n: int, one: str, many: str = "") -> str:
    """`1 image`, `1,000 images`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def table_finding(problem: Problem, root: Path) -> Finding:
    """Return a problem of reading the cohort as a finding; ids, cells and paths are in `where`."""
    table = "data.root" if problem.path == root else below(problem.path, root)
    where = [f"{table}, {problem.where}" if problem.where else table]
    if isinstance(problem.private, Path):
        where.append(below(problem.private, root))
    elif problem.private:
        where.append(problem.private)
    shown = tuple(map(hide_dates, where))
    return Finding("error", "table", hide_dates(problem.what), shown, problem.action)


def below(path: Path, root: Path) -> str:
    """A path as the audit tells it: from `root` on, or its last name where it lies elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
