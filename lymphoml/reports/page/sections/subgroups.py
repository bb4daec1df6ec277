"""Sensitivity and specificity by subgroup."""

from typing import Any

from lymphoml.reports.page.chart import forest
from lymphoml.reports.page.sections import Choices
from lymphoml.reports.results import run_scores
from lymphoml.runs.finished_run import Run

TITLE = "Subgroups"
COLOURS = {"sensitivity": "tumoral", "specificity": "reactive"}


def content(run: Run, choices: Choices) -> dict[str, Any]:
    groups = {_name(group): group for group in run.metrics["subgroups"]}
    scores = {name: {key: group[key] or {} for key in COLOURS} for name, group in groups.items()}
    return {
        "groups": groups,
        "charts": [
            forest(
                f"subgroups-{measure}", measure, scores, 150, len(groups),
                run_scores(run)[measure]["value"], colour,
            )
            for measure, colour in COLOURS.items()
        ]
        if groups
        else [],
    }  # fmt: skip


def _name(group: dict[str, Any]) -> str:
    if group["by"] == "hard":
        return f"hard stratum: { {'1': 'yes', '0': 'no'}.get(group['group'], group['group']) }"
    return f"{group['by']}: {group['group']}".replace("_", " ")
