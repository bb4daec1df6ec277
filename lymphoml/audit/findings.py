"""What an audit found: a severity, and what, where and what to do."""

from collections.abc import Iterable
from dataclasses import dataclass

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
