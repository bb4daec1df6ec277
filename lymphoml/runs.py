"""The run folder: what a job leaves behind, and all that anything after training may read."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock, Timeout

from lymphoml.errors import InputError
from lymphoml.files import write_json, write_text
from lymphoml.identity import differences


def claim(
    folder: Path, config: dict[str, Any], environment: dict[str, Any], chunk_size: int | None
) -> None:
    """Make `folder` the run of this configuration and data, or check that it already is.

    Of jobs that begin together the first settles `trainer.chunk_size`: where the configuration
    says `auto`, it becomes what the run was begun with, else `chunk_size`. Raises InputError where
    the folder holds a run of another configuration or of other data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        _claim(folder, config, environment, chunk_size)


def _claim(
    folder: Path, config: dict[str, Any], environment: dict[str, Any], chunk_size: int | None
) -> None:
    stored = read_config(folder)
    if config["trainer"]["chunk_size"] == "auto":
        config["trainer"]["chunk_size"] = (
            chunk_size if stored is None else stored["trainer"].get("chunk_size")
        )
    if stored is not None:
        # Keys that a run of version 0.1.0's first days does not tell: it permuted nothing, and may
        # be scored by the stratum asked for now.
        younger = {"hard_stratum": config["data"]["hard_stratum"], "permute_bags": False}
        stored["data"] = younger | stored["data"]
        stored["model"] = {"instance_dropout": 0.0} | stored["model"]
        problems = [
            f"run folder {folder}: {key} is {old!r} there and {new!r} now; "
            f"choose another name=..., or remove the folder"
            for key, old, new in differences(stored, config)
        ]
        known = json.loads((folder / "environment.json").read_text())
        if known["data_fingerprint"] != environment["data_fingerprint"]:
            problems.append(
                f"run folder {folder}: the cohort's table or images have changed since it was "
                f"begun; choose another name=..., or remove the folder"
            )
        if problems:
            raise InputError(problems)
        return
    write_json(folder / "environment.json", environment)
    write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))


def read_config(folder: Path) -> dict[str, Any] | None:
    """The configuration that the run was begun with; None where it has not been begun."""
    path = folder / "config.yaml"
    return yaml.safe_load(path.read_text()) if path.exists() else None


@contextmanager
def fold_lock(folder: Path, fold: int) -> Iterator[Path]:
    """The fold's own folder, for this process alone."""
    path = fold_folder(folder, fold)
    path.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path / ".lock", timeout=0):
            yield path
    except Timeout:
        raise InputError(
            f"fold {fold} of {folder} is being trained by another process; wait for it"
        ) from None


def settle_folds(folder: Path, folds: pd.DataFrame, given: str | None) -> None:
    """Write `folds.csv`, or raise InputError where the run was begun with other folds."""
    path = folder / "folds.csv"
    if not path.exists():
        write_table(path, folds)
    elif given and not _same_folds(read_table(path), folds):
        raise InputError(
            f"data.fold_file={given}: its content has changed since run {folder} was begun; "
            f"choose another name=..., or remove the folder"
        )


def _same_folds(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    columns = ["patient", "fold"]
    first, second = (table[columns].sort_values(columns).to_numpy() for table in (one, other))
    return first.shape == second.shape and bool((first == second).all())


def fold_folder(folder: Path, fold: int) -> Path:
    return folder / f"fold-{fold}"


def is_done(folder: Path, fold: int) -> bool:
    return (fold_folder(folder, fold) / "done.json").exists()


def read_predictions(folder: Path, folds: list[int]) -> pd.DataFrame:
    """The out-of-fold predictions of these folds: patient, fold, label, probability."""
    parts = [read_table(fold_folder(folder, fold) / "predictions.csv") for fold in folds]
    return pd.concat(parts, ignore_index=True)


def read_histories(folder: Path, folds: list[int]) -> dict[int, pd.DataFrame]:
    return {fold: pd.read_csv(fold_folder(folder, fold) / "history.csv") for fold in folds}


def read_table(path: Path) -> pd.DataFrame:
    """A CSV whose patients stay text, 007 as well as NA."""
    return pd.read_csv(path, dtype={"patient": str}, na_filter=False)


def write_table(path: Path, table: pd.DataFrame) -> None:
    write_text(path, table.to_csv(index=False))
