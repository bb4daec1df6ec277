"""This table."""

import ast

import pytest

from tests.promises.table import ROOT, Row, documented, note_promise, rows, write


def _marked() -> set[str]:
    """Every test in this folder that is marked as a promise, read off the syntax trees."""
    found = set()
    for path in sorted((ROOT / "tests" / "promises").glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and any(
                "mark.promise" in ast.unparse(each) for each in node.decorator_list
            ):
                found.add(f"{path.relative_to(ROOT)}::{node.name}")
    return found


def test_the_page_names_every_promise_and_no_other():
    """After adding one: `make test-all`, which writes docs/reliability.md."""
    page = (ROOT / "docs" / "reliability.md").read_text()
    assert documented(page) == _marked()
    assert "DID NOT HOLD" not in page


def test_cases_add_up_and_a_failed_one_is_told(tmp_path):
    def report(case, outcome, when="call", **more):
        told = [("promise", ("Kills", "kill", "same bytes")), *more.items()]
        return pytest.TestReport(
            f"tests/test_a.py::test_kill[{case}]", ("", 0, ""), {}, outcome, None, when,
            user_properties=told,
        )  # fmt: skip

    held = [report(1, "passed", "setup"), report(1, "passed", tried=3), report(2, "passed")]
    row = Row("Kills", "tests/test_a.py::test_kill", "kill", "same bytes", 4, True)
    assert rows(held) == [row]
    assert rows([*held, report(3, "failed", "setup")]) == [row._replace(held=False)]
    write(tmp_path / "page.md", [row])
    assert documented((tmp_path / "page.md").read_text()) == {row.test}
    assert "| kill | 4 | same bytes |" in (tmp_path / "page.md").read_text()
    write(tmp_path / "page.md", [row._replace(held=False)])
    assert "DID NOT HOLD" in (tmp_path / "page.md").read_text()


def test_only_marked_tests_are_noted(request):
    note_promise(request.node)
    assert request.node.user_properties == []


@pytest.mark.promise("a promise without a test", "a test of the table fails")
def test_a_marked_test_is_noted(request):
    assert dict(request.node.user_properties)["promise"][0] == "This table"
