"""The problems of reading a cohort as findings, without birth dates and the machine's paths."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lymphoml.core.privacy import hide_dates

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


QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
PLACE = re.compile(
    rf"(?P<place>.*?(?:, row \d+)?(?:, (?:patient|folder) (?:[\w-]+|{QUOTED}))?): (?P<rest>.*)"
)
# What names a patient, or may: a cell may have slipped out of the column of ids.
NAMING = (  # what it stands in, what is left of that
    (rf"(?P<name>{QUOTED}) (?=is )", ""),
    (r"(?<= is taken by )(?P<name>.+)(?=; )", "another row"),
    (r"^(?P<name>.+)(?= (?:links to a place outside|does not exist, or is a broken link))", "it"),
    (r"^(?P<left>no image .*|no such folder) in (?P<name>.+)(?=; )", r"\g<left>"),
    (r"^(?P<name>.+)(?= is no file(?:$|; ))", "it"),
    (rf"^(?P<name>.+ holds a file called {QUOTED})", "a folder holds a file of a refused name"),
    (rf": (?P<name>{QUOTED})(?=$|; )", ""),  # of an OSError
)


def table_finding(problem: str, root: Path, paths: Iterable[Path] = ()) -> Finding:
    """A problem's line begins with the place, and ends with what to do; ids stand in `where` only.

    Of `paths`, the tables and folders that a problem may name, those outside `root` are told by
    their last name alone.
    """
    for path in paths:
        if not path.is_relative_to(root):
            problem = _told_as(problem, path, path.name)
    problem = hide_dates(_below(problem, root))
    parted = PLACE.fullmatch(problem)
    where, what = ([parted["place"]], parted["rest"]) if parted else ([], problem)
    for pattern, left in NAMING:
        if found := re.search(pattern, what):
            where.append(found["name"])
            what = what[: found.start()] + found.expand(left) + what[found.end() :]
    what, _, action = what.partition("; ")
    return Finding("error", "table", what, tuple(where), action)


def below(path: Path, root: Path) -> str:
    """A path as the audit tells it: from `root` on, or its last name where it lies elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _below(problem: str, root: Path) -> str:
    problem = re.sub(rf"(?<![\w./-]){re.escape(str(root))}/", "", problem)
    # The bare name of a relative root, such as `data`, may be a word like any other.
    return _told_as(problem, root, "data.root") if "/" in str(root) else problem


def _told_as(problem: str, path: Path, name: str) -> str:
    end = r"(?=[/:;,'\"\s]|$)"
    return re.sub(rf"(?<![\w./-]){re.escape(str(path))}{end}", lambda _: name, problem)
