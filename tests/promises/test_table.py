"""This table"""

import pytest

from tests.promises.table import FAILED, PAGE, Promise, Result, known_results, promises, render
from tests.promises.table import results as results_of

ROW = Promise("Kills", "tests/promises/test_a.py", "test_kill", "kill", "same bytes")


@pytest.mark.promise("a promise without a test, or a test without a row here", "a test fails")
def test_the_page_has_a_row_for_every_promise():
    """After a change: `python -m tests.promises.table`, which writes docs/reliability.md."""
    page = PAGE.read_text()
    assert page == render(promises(), known_results(page))
    assert FAILED not in page


def test_every_promise_has_a_name_of_its_own():
    names = [row.test for row in promises()]
    assert len(names) == len(set(names)) > 50


def test_cases_add_up_and_a_failed_one_is_shown():
    def report(case, outcome, when="call", **more):
        return pytest.TestReport(
            f"{ROW.file}::test_kill[{case}]", ("", 0, ""), {}, outcome, None, when,
            user_properties=list(more.items()),
        )  # fmt: skip

    held = [report(1, "passed", "setup"), report(1, "passed", tried=3), report(2, "passed")]
    assert results_of(held) == {"test_kill": Result(4, True)}
    failed = results_of([*held, report(3, "failed", "setup")])
    assert failed == {"test_kill": Result(4, False)}
    for found in (results_of(held), failed, {}):
        assert known_results(render([ROW], found)) == found
    assert "| kill | 4 | same bytes |" in render([ROW], results_of(held))
    assert "| kill | - | same bytes |" in render([ROW], {})
    assert FAILED in render([ROW], failed)
