"""Every setting that affects the results, and the command that reproduces the run."""

from typing import Any

from lymphoml.reports.format import format_setting
from lymphoml.reports.page.sections import Choices
from lymphoml.reports.run_labels import flatten
from lymphoml.runs.finished_run import Run

TITLE = "Configuration"
ENVIRONMENT = {"git commit": "git_commit", "data fingerprint": "data_fingerprint",
               "hardware": "hardware", "arithmetic": "settings"}  # fmt: skip
UNKNOWN = "not recorded"


def content(run: Run, choices: Choices) -> dict[str, Any]:
    groups: dict[str, dict[str, str]] = {}
    for key, value in flatten(run.config).items():
        group, _, name = key.partition(".")
        place = group if isinstance(run.config.get(group), dict) else "run"
        groups.setdefault(place, {})[name or group] = format_setting(value)
    return {
        "changes": run.changes,
        "settings": groups,
        "command": run.environment.get("command"),
        "environment": {
            title: run.environment.get(key) or UNKNOWN for title, key in ENVIRONMENT.items()
        },
        "versions": run.environment.get("versions") or {"packages": UNKNOWN},
    }
