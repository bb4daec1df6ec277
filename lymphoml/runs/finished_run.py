"""Finished run folders, read back: everything that a report needs of a training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lymphoml.core import untrusted
from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import reject_symlinks
from lymphoml.runs.ensemble import REMAKE, member_names
from lymphoml.runs.provenance import read_sessions, summarize
from lymphoml.runs.run_folder import read_environment
from lymphoml.runs.tables import RERUN, read_predictions_csv

HISTORY = ("epoch", "train/loss", "val/loss", "val/balanced_accuracy")


@dataclass(frozen=True)
class Run:
    """One cross-validated configuration."""

    path: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    metrics: dict[str, Any]
    folds: pd.DataFrame  # patient, fold
    predictions: pd.DataFrame  # out of fold: patient, fold, label, probability
    histories: dict[int, pd.DataFrame]  # by fold, a row an epoch
    seconds: float | None  # of training, all folds; None where nothing was trained

    @property
    def changes(self) -> list[str]:
        """A line for each change of what decides on its numbers while it was made."""
        return summarize(read_sessions(self.environment))

    @property
    def repeat(self) -> pd.Series:
        """The repeat of the cross-validation that each row of `predictions` belongs to."""
        return self.predictions["fold"] // self.config["data"]["folds"]


def read_run(path: Path) -> Run:
    """Return the finished run in folder `path`; InputError where it is unfinished or damaged."""
    reject_symlinks(path)
    if not (path / "config.yaml").is_file():
        raise InputError(f"{path} is not a run: it has no config.yaml. Give a folder of train.py.")
    if (gap := _missing(path)) is not None:
        raise InputError(f"{path} is not finished: {gap}; {_advice(path)}")
    member_names(path)  # refuses what cannot be names
    folds = read_predictions_csv(path / "folds.csv", ("patient", "fold"))
    numbers = _numbers(folds)
    done = [read_mapping(path / f"fold-{fold}" / "done.json") for fold in numbers]
    histories = {
        fold: read_predictions_csv(path / f"fold-{fold}" / "history.csv", HISTORY)
        for fold in numbers
    }
    trained = all("seconds" in fold for fold in done)
    return Run(
        path=path,
        config=read_mapping(path / "config.yaml"),
        environment=read_environment(path),
        metrics=read_mapping(path / "metrics.json"),
        folds=folds,
        predictions=read_predictions_csv(path / "predictions.csv"),
        histories=histories,
        seconds=sum(fold["seconds"] for fold in done) if trained else None,
    )


def siblings(path: Path) -> list[Path]:
    """Return the runs in the same folder, itself included, finished or not: what was tried."""
    folder = path.resolve().parent
    return sorted(each for each in folder.iterdir() if _has(each, "config.yaml"))


def find_runs(folder: Path, but: Path | None = None) -> list[Path]:
    """Return the runs of a sweep: the sub-folders of `folder` by name, without `but`.

    Raises InputError naming every unfinished one: a table without the jobs that failed would not
    show the sweep.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder. Give the folder of a sweep, runs/NAME.")
    if _has(folder, "config.yaml"):
        raise InputError(f"{folder} is one run. Give the folder that contains a sweep's runs.")
    paths = sorted(path for path in folder.iterdir() if _may_be_run(path))
    if but is not None:
        paths = [path for path in paths if path.resolve() != but.resolve()]
    for path in paths:
        reject_symlinks(path)
    if not paths:
        raise InputError(f"{folder} contains no run. Give the folder of a sweep, runs/NAME.")
    gaps = [(path, gap) for path in paths if (gap := _missing(path)) is not None]
    if gaps:
        raise InputError(
            f"{path} is not finished: {gap}; {_advice(path)}, or remove the folder"
            for path, gap in gaps
        )
    return paths


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in a yaml or json file."""
    return untrusted.read_mapping(path, RERUN)


def _may_be_run(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".") and path.name != "wandb"


def _advice(path: Path) -> str:
    return REMAKE if member_names(path) else RERUN


def _missing(path: Path) -> str | None:
    """What keeps the run from being finished."""
    for name in ("config.yaml", "folds.csv"):
        if not _has(path, name):
            return f"it has no {name}"
    folds = _numbers(read_predictions_csv(path / "folds.csv", ("patient", "fold")))
    if unfinished := [fold for fold in folds if not _has(path, f"fold-{fold}", "done.json")]:
        plural = "s" * (len(unfinished) > 1)
        return f"done.json is missing in fold{plural} {', '.join(map(str, unfinished))}"
    for name in ("predictions.csv", "metrics.json"):
        if not _has(path, name):
            return f"it has no {name}"
    return None


def _has(path: Path, *names: str) -> bool:
    return path.joinpath(*names).is_file()


def _numbers(folds: pd.DataFrame) -> list[int]:
    return sorted(int(fold) for fold in folds["fold"].unique())
