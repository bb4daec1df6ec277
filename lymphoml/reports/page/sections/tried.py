"""How many other configurations a score was picked from, and how often the test set was used."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lymphoml.core.errors import InputError
from lymphoml.reports.page.choices import Choices
from lymphoml.reports.page.sweep_chart import sweep_chart
from lymphoml.runs.finished_run import Run, read_run, siblings
from lymphoml.runs.test_set_log import count_uses

TITLE = "What was tried"


def content(run: Run, choices: Choices) -> dict[str, Any]:
    beside = siblings(run.path)
    comparable = _comparable(run, beside)
    return {
        "tried": len(beside),
        "comparable": len(comparable),
        "chart": sweep_chart(comparable) if len(comparable) > 1 else None,
        "count_uses": count_uses(beside),
    }


def _comparable(run: Run, beside: Sequence[Path]) -> list[Run]:
    """The finished runs on the same patients and folds, this one included."""
    folds = _assigned(run)
    found = []
    for path in beside:
        try:
            other = run if path == run.path.resolve() else read_run(path)
        except InputError:
            continue
        if _assigned(other) == folds:
            found.append(other)
    return found


def _assigned(run: Run) -> set[tuple[str, int]]:
    return set(zip(run.folds["patient"], run.folds["fold"], strict=True))
