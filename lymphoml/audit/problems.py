"""The problems of reading a cohort as findings, without birth dates and the machine's paths."""

import re
from collections.abc import Iterable
from pathlib import Path

from lymphoml.audit.findings import Finding

# A birth date in another column, where cells have slipped: numbers parted by what parts dates.
DATE = re.compile(r"\d+(?:[-/.\s]+\d+){2,}")


def table_finding(problem: str, root: Path, paths: Iterable[Path] = ()) -> Finding:
    """A problem's line begins with the place, and ends with what to do.

    Of `paths`, the tables and folders that a problem may name, those outside `root` are told by
    their last name alone.
    """
    for path in paths:
        if not path.is_relative_to(root):
            problem = _told_as(problem, path, path.name)
    where, _, what = hide_dates(_below(problem, root)).partition(": ")
    what, _, action = what.partition("; ")
    return Finding("error", "table", what, (where,), action)


def hide_dates(text: str) -> str:
    return DATE.sub("(a date)", text)


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
