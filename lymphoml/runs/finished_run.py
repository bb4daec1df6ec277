"""Finished run folders, read back: everything that a report needs of a training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lymphoml.core import untrusted
from lymphoml.core.errors import InputError
from lymphoml.runs.checksums import SUMS, verify_checksums
from lymphoml.runs.ensemble import REMAKE, member_names
from lymphoml.runs.fold_lock import fold_folder
from lymphoml.runs.provenance import summarize
from lymphoml.runs.run_folder import (
    RERUN,
    ROW_KEYS,
    SUBGROUPS,
    all_folds,
    describe_unfinished,
    read_environment,
    read_folds_csv,
    read_out_of_fold,
    read_predictions_csv,
)

HISTORY = ("epoch", "train/loss", "val/loss", "val/balanced_accuracy")


@dataclass(frozen=True)
class Run:
    """One cross-validated configuration."""

    path: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    metrics: dict[str, Any]
    folds: pd.DataFrame  # patient, fold
    predictions: pd.DataFrame  # out of fold, see `read_out_of_fold`
    histories: dict[int, pd.DataFrame]  # by fold, a row an epoch
    seconds: float | None  # of training, all folds; None where nothing was trained

    @property
    def changes(self) -> list[str]:
        """A line for each change of what decides on its numbers while it was made."""
        return summarize(self.environment)

    @property
    def repeat(self) -> pd.Series:
        """The repeat of the cross-validation that each row of `predictions` belongs to."""
        return self.predictions["fold"] // self.config["data"]["folds"]

    def hard_stratum(self) -> pd.Series | None:
        """Whether each patient is in the hard stratum, where known; None without a stratum."""
        if "hard" not in (strata := self.table(SUBGROUPS, ["patient"])):
            return None
        hard = strata.set_index("patient")["hard"]
        return hard[hard != "unknown"] == "1"

    def table(self, name: str, columns: Sequence[str] = ROW_KEYS) -> pd.DataFrame:
        """A table of the run; without columns where there is none."""
        path = self.path / name
        return read_predictions_csv(path, columns) if path.is_file() else pd.DataFrame()

    def baseline_names(self) -> list[str]:
        """The baselines of baselines.csv."""
        return [name for name in self.table("baselines.csv").columns if name not in ROW_KEYS]

    def baseline(self, name: str) -> pd.DataFrame | None:
        """`predictions` with the probabilities of a baseline; None where the run lacks it.

        Raises InputError for invalid probabilities, other patients or other folds.
        """
        table = self.table("baselines.csv")
        if name in ROW_KEYS or name not in table:
            return None
        own = self.predictions.drop(columns="probability")
        table = table[[*ROW_KEYS, name]].astype({"fold": int})
        table[name] = pd.to_numeric(table[name], errors="coerce")
        rows = own.merge(table, "left", ROW_KEYS).rename(columns={name: "probability"})
        if not len(own) == len(table) == len(rows) or not rows["probability"].between(0, 1).all():
            raise InputError(
                f"{self.path / 'baselines.csv'}: has other patients or folds than predictions.csv, "
                f"or no probabilities in column {name}; remove the file, and {RERUN}"
            )
        return rows

    def instances(self) -> pd.DataFrame | None:
        """Out-of-fold probability of each image, mean over repeats: patient, image, probability.

        None unless every fold has an instances.csv.
        """
        paths = [self.path / f"fold-{fold}" / "instances.csv" for fold in self.histories]
        if not all(path.is_file() for path in paths):
            return None
        columns = ("patient", "image", "probability")
        rows = pd.concat([read_predictions_csv(path, columns) for path in paths])
        rows["probability"] = rows["probability"].astype(float)
        return rows.groupby(["patient", "image"])[["probability"]].mean().reset_index()


def read_run(path: Path) -> Run:
    """Return the finished run in folder `path`; InputError where it is unfinished or damaged."""
    if not (path / "config.yaml").is_file():
        raise InputError(f"{path} is not a run: it has no config.yaml. Give a folder of train.py.")
    _check_finished([path])
    verify_checksums(path)
    member_names(path)  # refuses what cannot be names
    folds = read_folds_csv(path)
    folders = {fold: fold_folder(path, fold) for fold in sorted(folds["fold"].unique().tolist())}
    done = [read_mapping(folder / "done.json") for folder in folders.values()]
    seconds: list[Any] = [each.get("seconds") for each in done]
    return Run(
        path=path,
        config=read_mapping(path / "config.yaml"),
        environment=read_environment(path),
        metrics=read_mapping(path / "metrics.json"),
        folds=folds,
        predictions=read_out_of_fold(path),
        histories={
            fold: read_predictions_csv(folder / "history.csv", HISTORY)
            for fold, folder in folders.items()
        },
        seconds=None if None in seconds else float(sum(seconds)),
    )


def siblings(path: Path) -> list[Path]:
    """Return the runs in the same folder, itself included, finished or not: what was tried."""
    folder = path.resolve().parent
    return sorted(each for each in folder.iterdir() if (each / "config.yaml").is_file())


def find_runs(folder: Path, but: Path | None = None) -> list[Path]:
    """Return the runs of a sweep: the sub-folders of `folder` by name, without `but`.

    Raises InputError naming every unfinished one: a table without the jobs that failed would not
    show the sweep.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder. Give the folder of a sweep, runs/NAME.")
    if (folder / "config.yaml").is_file():
        raise InputError(f"{folder} is one run. Give the folder that contains a sweep's runs.")
    paths = [
        path
        for path in sorted(folder.iterdir())
        if path.is_dir()
        and not path.name.startswith(".")
        and path.name not in ("ray", "slurm", "wandb")
        if but is None or path.resolve() != but.resolve()
    ]
    if not paths:
        raise InputError(f"{folder} contains no run. Give the folder of a sweep, runs/NAME.")
    _check_finished(paths)
    return paths


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in a yaml or json file."""
    return untrusted.read_mapping(path, RERUN)


def _check_finished(paths: Sequence[Path]) -> None:
    problems = []
    for path in paths:
        untrusted.reject_symlinks(path)
        if missing := _missing(path):
            problems.append(f"{path} is not finished: {missing}, or remove the folder")
    if problems:
        raise InputError(problems)


def _missing(path: Path) -> str | None:
    """What keeps the run from being finished."""
    files = ("config.yaml", "folds.csv", "predictions.csv", "metrics.json", SUMS)
    absent = [name for name in files if not (path / name).is_file()]
    if "folds.csv" not in absent and (unfinished := describe_unfinished(path, all_folds(path))):
        return unfinished
    advice = REMAKE if member_names(path) else RERUN
    return f"it has no {absent[0]}; {advice}" if absent else None
