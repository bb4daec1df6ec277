"""Every setting that says what was trained, and the command that makes it again."""

from typing import Any

from lymphoml.reports.page.choices import Choices
from lymphoml.reports.page.settings import flatten
from lymphoml.reports.page.wording import shown
from lymphoml.runs.finished_run import Run

TITLE = "Configuration"
MADE_WITH = {"git commit": "git_commit", "data fingerprint": "data_fingerprint",
             "hardware": "hardware", "arithmetic": "settings"}  # fmt: skip


def content(run: Run, choices: Choices) -> dict[str, Any]:
    return {
        "drift": run.changes,
        "settings": _settings(run.config),
        "command": run.environment.get("command"),
        "made_with": {
            title: run.environment.get(key) or "not told" for title, key in MADE_WITH.items()
        },
        "versions": run.environment.get("versions") or {"packages": "not told"},
    }


def _settings(config: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Group, key and value."""
    groups: dict[str, dict[str, str]] = {}
    for key, value in flatten(config).items():
        group, _, name = key.partition(".")
        place = group if isinstance(config.get(group), dict) else "run"
        groups.setdefault(place, {})[name or group] = shown(value)
    return groups
