"""docs/reliability.md: a row for each test marked `promise`, and how many cases were tried.

`make test-all` writes it. After a change of a name or a text, `python -m tests.promises.table`
writes it without a run, with the counts that it has.
"""

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.promises.processes import ROOT

PAGE = ROOT / "docs" / "reliability.md"
HEAD = (
    "# Reliability: what is promised, what was tried, what happened\n\n"
    "Written by `make test-all` from the tests that it names; do not edit.\n"
)
COLUMNS = "| fault or attack | tried | what happens | test |\n|---|---|---|---|\n"
ROW = re.compile(r"^\| .* \| ([\d,]+|-) \| (.*) \| \[`(\w+)`\]\(", re.MULTILINE)
FAILED = "**DID NOT HOLD**"


class Promise(NamedTuple):
    """A marked test function, all its cases together."""

    section: str  # the first line of its module's docstring
    file: str  # tests/promises/test_kills.py
    test: str
    fault: str
    outcome: str


class Result(NamedTuple):
    tried: int
    held: bool


def promises() -> list[Promise]:
    """Return the marked tests, read from the syntax trees."""
    found = []
    for path in (ROOT / "tests" / "promises").glob("test_*.py"):
        tree = ast.parse(path.read_text())
        for node in tree.body:
            for mark in node.decorator_list if isinstance(node, ast.FunctionDef) else []:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.promise":
                    section = (ast.get_docstring(tree) or "").splitlines()[0].rstrip(".")
                    fault, outcome = map(ast.literal_eval, mark.args)
                    file = path.relative_to(ROOT).as_posix()
                    found.append(Promise(section, file, node.name, fault, outcome))
    return sorted(found)


def known_results(page: str) -> dict[str, Result]:
    """Return what a page says, by test."""
    return {
        test: Result(int(tried.replace(",", "")), outcome != FAILED)
        for tried, outcome, test in ROW.findall(page)
        if tried != "-"
    }


def results(reports: Iterable[pytest.TestReport]) -> dict[str, Result]:
    """Return what the reports of a session say, by test."""
    found: dict[str, Result] = {}
    for report in reports:
        if not report.nodeid.startswith("tests/promises/") or (
            report.passed and report.when != "call"
        ):
            continue
        test = report.nodeid.partition("[")[0].rpartition("::")[2]
        before = found.get(test, Result(0, True))
        tried = int(dict(report.user_properties).get("tried", 1)) if report.passed else 0
        found[test] = Result(before.tried + tried, before.held and report.passed)
    return found


def render(rows: list[Promise], found: dict[str, Result]) -> str:
    """Return the page: a section a test module; what did not hold is marked."""
    parts, section = [HEAD], None
    for row in rows:
        if row.section != section:
            section = row.section
            parts.append(f"\n## {section}\n\n{COLUMNS}")
        result = found.get(row.test)
        tried = "-" if result is None else f"{result.tried:,}"
        outcome = FAILED if result is not None and not result.held else row.outcome
        link = f"[`{row.test}`](../{row.file})"
        parts.append(f"| {row.fault} | {tried} | {outcome} | {link} |\n")
    return "".join(parts)


def write(path: Path, reports: Iterable[pytest.TestReport] = ()) -> None:
    """Write the page anew; what no report is about keeps its count."""
    known = known_results(path.read_text()) if path.exists() else {}
    path.write_text(render(promises(), known | results(reports)))


if __name__ == "__main__":
    write(PAGE)
