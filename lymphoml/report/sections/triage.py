"""Whom the model would spare further tests, and what may be promised of that."""

from collections.abc import Iterator, Mapping
from typing import Any

from lymphoml.report.choices import Choices
from lymphoml.report.optional import read_triage
from lymphoml.report.runs import Run
from lymphoml.report.wording import interval, score, shown

TITLE = "Triage"


def content(run: Run, choices: Choices) -> dict[str, Any]:
    rule = read_triage(run)
    return {"rule": rule is not None, "facts": list(_facts(rule or {}))}


def _facts(told: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Every entry in a line of words, whatever the command has written."""
    for key, value in told.items():
        name = f"{above}{key.replace('_', ' ')}"
        if isinstance(value, Mapping) and "value" in value:
            yield name, f"{_number(value['value'])} ({interval(value)})"
        elif isinstance(value, Mapping):
            yield from _facts(value, f"{name}, ")
        else:
            yield name, _number(value)


def _number(value: Any) -> str:
    return score(value) if isinstance(value, float) else shown(value)
