"""What runs are compared with: one of them, or a baseline that stands beside each."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lymphoml.core.errors import InputError
from lymphoml.reports.page.optional import baselines_told, read_baseline
from lymphoml.reports.page.settings import flatten
from lymphoml.runs.finished_run import Run, read_run

PAPER = {"optim": "SGD", "lr": 1e-4, "scheduler": "ExponentialLR"}  # the report's, in a sweep
BASELINES = {"clinical": "logistic_regression"}  # what else one may be called: its column
ROUNDING = 1e-6  # of a probability: two machines' sums differ by less, other data by more


def papers_run(paths: Sequence[Path]) -> Path | None:
    """The one run of a sweep that has the report's optimiser, rate and scheduler, if one has."""
    settings = {path: flatten(read_run(path).config) for path in paths}
    found = [
        path
        for path, flat in settings.items()
        if all(flat.get(key) == value for key, value in PAPER.items())
    ]
    return found[0] if len(found) == 1 else None


def baseline_run(runs: Sequence[Run], name: str) -> Run:
    """The first run, with a baseline's out-of-fold probabilities in place of its own.

    Each run fitted the baselines itself, with its own data settings. Raises InputError, a line a
    run, where one has no such baseline, and where one's differs from the first's by more than
    rounding: a gain over two different baselines is no gain.
    """
    told = [read_baseline(run, name) for run in runs]
    if all(table is None for table in told):
        raise InputError(_unknown(name, runs))
    missing = [
        f"reference={name}: {run.path} has no such baseline in its baselines.csv, as others have; "
        f"leave it out, or train it with the same data.clinical and data.image_baselines"
        for run, table in zip(runs, told, strict=True)
        if table is None
    ]
    if missing:
        raise InputError(missing)
    tables = [table for table in told if table is not None]
    by_fold = [table.set_index(["patient", "fold"])["probability"] for table in tables]
    other = [
        f"reference={name}: {run.path} and {runs[0].path} were given other clinical columns or "
        f"data settings: their {name} differs by up to {furthest:.3g}; leave one out, or train "
        f"both with the same"
        for run, table in zip(runs, by_fold, strict=True)
        if (furthest := float((table - by_fold[0]).abs().max())) > ROUNDING
    ]
    if other:
        raise InputError(other)
    return replace(runs[0], predictions=tables[0])


def _unknown(name: str, runs: Sequence[Run]) -> str:
    names = ", ".join(str(run.path) for run in runs)
    shared = set.intersection(*(set(baselines_told(run)) for run in runs))
    told = ", ".join(each for each in baselines_told(runs[0]) if each in shared) or "none is there"
    return (
        f"reference={name}: it must be one of the runs: {names}; or a baseline of all of them: "
        f"{told} (clinical is logistic_regression)"
    )
