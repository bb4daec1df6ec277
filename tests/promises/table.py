"""docs/reliability.md: a row for each test whose docstring is "fault → what happens".

`python -m tests.promises.table` writes it.
"""

import ast
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
HEAD = (
    "# Reliability: what is promised, and the test that tries it\n\n"
    "Written by `python -m tests.promises.table` from the tests that it names; do not edit.\n"
)
ARROW = " → "
COLUMNS = "| fault or attack | what happens | test |\n|---|---|---|\n"


def promises() -> list[tuple[str, str, str, str, str]]:
    """Return section, file, test, fault and outcome of each promise, off the syntax trees."""
    found = []
    for path in (ROOT / "tests" / "promises").glob("test_*.py"):
        tree = ast.parse(path.read_text())
        section = (ast.get_docstring(tree) or "").splitlines()[0].rstrip(".")
        for test in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            promise = " ".join((ast.get_docstring(test) or "").split("\n\n")[0].split())
            if ARROW in promise:
                found.append((section, path.name, test.name, *promise.split(ARROW)))
    return sorted(found)


def page() -> str:
    """Return the page: a section for each test module."""
    parts = [HEAD]
    for section, rows in groupby(promises(), key=lambda row: row[0]):
        parts.append(f"\n## {section}\n\n{COLUMNS}")
        parts += [
            f"| {fault} | {outcome} | [`{test}`](../tests/promises/{file}) |\n"
            for _, file, test, fault, outcome in rows
        ]
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
