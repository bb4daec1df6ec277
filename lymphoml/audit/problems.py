"""The problems of reading a cohort as findings, without birth dates and the machine's paths."""

import re
from collections.abc import Iterable
from pathlib import Path

from lymphoml.audit.findings import Finding
from lymphoml.privacy import hide_dates

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
