"""How runs side by side are called: by what tells them apart."""

from collections.abc import Sequence
from pathlib import Path

from lymphoml.reports.page.settings import differing, label
from lymphoml.runs.finished_run import Run

LONGEST = 80  # characters of settings that still tell runs apart at a glance


def run_labels(runs: Sequence[Run]) -> dict[Path, str]:
    """What tells a run from the others: its settings, or its folder where these are the same.

    Presets differ in a hundred settings: where these are too long, all go by their folders.
    """
    settings = differing([run.config for run in runs])
    keys = {key for each in settings for key in each}
    labels = [label(each, keys) for each in settings]
    names = short_names([run.path for run in runs])
    if max(map(len, labels)) > LONGEST:
        return {run.path: name for run, name in zip(runs, names, strict=True)}
    return {
        run.path: text if text and labels.count(text) == 1 else name
        for run, text, name in zip(runs, labels, names, strict=True)
    }


def short_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of the folders, as few as tell them apart."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
