"""docs/reliability.md: a row for each test marked `promise`, with what this session saw of it."""

import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
HEADER = "| fault or attack | tried | what happens | proved by |\n|---|---|---|---|\n"


class Row(NamedTuple):
    """Of one test function, all its cases together."""

    section: str  # the first line of its module's docstring
    test: str  # tests/promises/test_kills.py::test_name
    fault: str
    outcome: str
    tried: int
    held: bool


def note_promise(item: pytest.Item) -> None:
    """Lets the report of a marked test carry what its row needs, also from a worker of xdist."""
    marker = item.get_closest_marker("promise")
    if marker is not None:
        fault, outcome = marker.args
        section = inspect.getdoc(item.module).splitlines()[0].rstrip(".")  # type: ignore[attr-defined]
        item.user_properties.append(("promise", (section, fault, outcome)))


def rows(reports: Iterable[pytest.TestReport]) -> list[Row]:
    """The rows that the reports of a session make, in the order of sections and tests."""
    found: dict[str, Row] = {}
    for report in reports:
        told = dict(report.user_properties)
        if "promise" not in told or (report.passed and report.when != "call"):
            continue
        test = report.nodeid.partition("[")[0]
        section, fault, outcome = told["promise"]
        row = found.get(test, Row(section, test, fault, outcome, 0, True))
        tried = int(told.get("tried", 1)) if report.passed else 0
        found[test] = row._replace(tried=row.tried + tried, held=row.held and report.passed)
    return sorted(found.values())


def write(path: Path, table: list[Row]) -> None:
    """A section a test module; what did not hold is said so, in its place."""
    parts = ["# Reliability: what is promised, what was tried, what happened\n\n",
             "Written by `make test-all`, the tests that it names; not by hand.\n"]  # fmt: skip
    for section in dict.fromkeys(row.section for row in table):
        parts.append(f"\n## {section}\n\n{HEADER}")
        for row in table:
            if row.section == section:
                outcome = row.outcome if row.held else "**DID NOT HOLD**"
                file, _, name = row.test.partition("::")
                parts.append(
                    f"| {row.fault} | {row.tried:,} | {outcome} | [`{name}`](../{file}) |\n"
                )
    path.write_text("".join(parts))


def documented(text: str) -> set[str]:
    """The tests that a page names: file::name."""
    links = re.findall(r"\[`(\w+)`\]\(\.\./([\w/.]+)\)", text)
    return {f"{file}::{name}" for name, file in links}
