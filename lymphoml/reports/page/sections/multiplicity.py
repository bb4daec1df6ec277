"""How many configurations were tried, and how often the test set was used."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lymphoml.core.errors import InputError
from lymphoml.reports.comparison.alignment import mismatched_runs
from lymphoml.reports.comparison.sweep import sweep_chart
from lymphoml.reports.page.sections import Choices
from lymphoml.runs.finished_run import Run, read_run, siblings
from lymphoml.runs.test_set_log import count_uses

TITLE = "Multiplicity"


def content(run: Run, choices: Choices) -> dict[str, Any]:
    paths = siblings(run.path)
    comparable = _comparable(run, paths)
    return {
        "tried": len(paths),
        "comparable": len(comparable),
        "chart": sweep_chart(comparable) if len(comparable) > 1 else None,
        "uses": count_uses(paths),
    }


def _comparable(run: Run, paths: Sequence[Path]) -> list[Run]:
    """This run, and the finished ones on the same patients and folds."""
    runs = [run]
    for path in paths:
        try:
            other = read_run(path)
        except InputError:
            continue
        if path != run.path.resolve() and not mismatched_runs([run, other]):
            runs.append(other)
    return runs
