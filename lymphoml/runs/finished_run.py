"""Finished run folders, read back: all that a report knows of a training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lymphoml.core import untrusted
from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import reject_symlinks
from lymphoml.runs import provenance
from lymphoml.runs.ensemble import member_names
from lymphoml.runs.run_folder import read_environment
from lymphoml.runs.tables import RERUN, read_predictions_csv

HISTORY = ("epoch", "train/loss", "val/loss", "val/balanced_accuracy")


@dataclass(frozen=True)
class Run:
    """One cross-validated configuration, as it lies in its folder."""

    path: Path
    config: dict[str, Any]
    environment: dict[str, Any]  # empty where the run tells nothing
    metrics: dict[str, Any]
    folds: pd.DataFrame  # patient, fold
    predictions: pd.DataFrame  # out of fold: patient, fold, label, probability
    histories: dict[int, pd.DataFrame]  # by fold, a row an epoch
    seconds: float | None  # of training, all folds; None where a fold does not tell

    @property
    def drift(self) -> list[str]:
        """A line for each thing that decides on its numbers and changed while it was made."""
        return provenance.summary(self.environment.get(provenance.KEY, []))

    @property
    def repeat(self) -> pd.Series:
        """Which repeat of the cross-validation each row of `predictions` belongs to."""
        return self.predictions["fold"] // self.config["data"]["folds"]


def read_run(path: Path) -> Run:
    """The finished run in folder `path`; InputError where it is none, unfinished or damaged."""
    reject_symlinks(path)
    if not (path / "config.yaml").is_file():
        raise InputError(f"{path} is no run: it has no config.yaml; give a folder of train.py")
    if (gap := _missing(path)) is not None:
        raise InputError(f"{path} is not finished: {gap}; {_again(path)}")
    member_names(path)  # refuses what could be none
    folds = read_predictions_csv(path / "folds.csv", ("patient", "fold"))
    numbers = _numbers(folds)
    done = [read_mapping(path / f"fold-{fold}" / "done.json") for fold in numbers]
    return Run(
        path=path,
        config=read_mapping(path / "config.yaml"),
        environment=read_environment(path) if _has(path, "environment.json") else {},
        metrics=read_mapping(path / "metrics.json"),
        folds=folds,
        predictions=read_predictions_csv(
            path / "predictions.csv", ("patient", "fold", "label", "probability")
        ),
        histories={
            fold: read_predictions_csv(path / f"fold-{fold}" / "history.csv", HISTORY)
            for fold in numbers
        },
        seconds=sum(fold["seconds"] for fold in done)
        if all("seconds" in fold for fold in done)
        else None,
    )


def siblings(path: Path) -> list[Path]:
    """The runs beside this one, itself included, begun or finished: what has been tried."""
    folder = path.resolve().parent
    return sorted(each for each in folder.iterdir() if _has(each, "config.yaml"))


def find_runs(folder: Path, but: Path | None = None) -> list[Path]:
    """The runs of a sweep: the sub-folders of `folder`, by name; `but`, if it is one, left aside.

    Raises InputError naming every unfinished one, since a table that leaves out the jobs that
    failed says something else than the sweep.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of a sweep, runs/NAME")
    if _has(folder, "config.yaml"):
        raise InputError(f"{folder} is one run; give the folder that holds a sweep's runs")
    paths = sorted(path for path in folder.iterdir() if _may_be_run(path))
    if but is not None:
        paths = [path for path in paths if path.resolve() != but.resolve()]
    for path in paths:
        reject_symlinks(path)
    if not paths:
        raise InputError(f"{folder} holds no run; give the folder of a sweep, runs/NAME")
    gaps = [(path, _missing(path)) for path in paths]
    if problems := [
        f"{path} is not finished: {gap}; {_again(path)}, or remove the folder"
        for path, gap in gaps
        if gap is not None
    ]:
        raise InputError(problems)
    return paths


def _may_be_run(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".") and path.name != "wandb"


def _again(path: Path) -> str:
    return "make the ensemble again" if member_names(path) else RERUN


def _missing(path: Path) -> str | None:
    """What keeps the run from being finished."""
    for name in ("config.yaml", "folds.csv"):
        if not _has(path, name):
            return f"it has no {name}"
    wanted = _numbers(read_predictions_csv(path / "folds.csv", ("patient", "fold")))
    if unfinished := [fold for fold in wanted if not _has(path, f"fold-{fold}", "done.json")]:
        verb = "has" if len(unfinished) == 1 else "have"
        plural = "" if len(unfinished) == 1 else "s"
        return f"fold{plural} {', '.join(map(str, unfinished))} {verb} no done.json"
    for name in ("predictions.csv", "metrics.json"):
        if not _has(path, name):
            return f"it has no {name}"
    return None


def _has(path: Path, *names: str) -> bool:
    return path.joinpath(*names).is_file()


def _numbers(folds: pd.DataFrame) -> list[int]:
    return sorted(int(fold) for fold in folds["fold"].unique())


def read_mapping(path: Path) -> dict[str, Any]:
    """A yaml or json file that holds a mapping."""
    return untrusted.read_mapping(path, RERUN)
