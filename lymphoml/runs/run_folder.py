"""The run folder: what a job leaves behind, and all that anything after training may read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock

from lymphoml.core.errors import InputError
from lymphoml.core.files import remove_stale_temp_files, write_csv, write_json, write_text
from lymphoml.core.privacy import portable
from lymphoml.core.untrusted import read_mapping, reject_symlinks
from lymphoml.runs import provenance
from lymphoml.runs.fold_lock import fold_folder
from lymphoml.runs.fold_lock import is_done as is_done
from lymphoml.runs.tables import read_predictions_csv

# Under the run's lock.
WRITTEN = ("environment.json", "config.yaml", "folds.csv", "predictions.csv", "baselines.csv",
           "strata.csv", "metrics.json")  # fmt: skip


def claim(
    folder: Path,
    config: dict[str, Any],
    environment: dict[str, Any],
    chunk_size: int | None,
    asked: list[int],
) -> None:
    """Make `folder` the run of this configuration and environment, or check that it already is.

    Of jobs that begin together the first settles `trainer.encoder_chunk_size`: where the configuration
    says `auto`, it becomes what the run was begun with, else `chunk_size`. Raises InputError, a
    line a difference, where the folder holds a run of other configuration or data, or, with one of
    the folds `asked` not done, of other code, libraries or arithmetic; with `resume.allow_changes`
    such a fold goes on and `environment.json` records what differed.
    """
    reject_symlinks(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with run_lock(folder):
        _claim(folder, config, environment, chunk_size, asked)


def _claim(
    folder: Path,
    config: dict[str, Any],
    environment: dict[str, Any],
    chunk_size: int | None,
    asked: list[int],
) -> None:
    stored = read_config(folder)
    if config["trainer"]["encoder_chunk_size"] == "auto":
        config["trainer"]["encoder_chunk_size"] = (
            chunk_size if stored is None else stored["trainer"].get("encoder_chunk_size")
        )
    if stored is None:
        write_json(folder / "environment.json", environment)
        write_text(folder / "config.yaml", yaml.safe_dump(portable(config), sort_keys=False))
        return
    # Keys that a run of version 0.1.0's first days does not tell: it permuted nothing, looked at
    # each image once, and may be scored by the stratum asked for now.
    younger = {
        "hard_stratum": config["data"]["hard_stratum"],
        "shuffle_bag_labels": False,
        "eval_tta": 1,
    }
    stored["data"] = younger | stored["data"]
    stored["model"] = {"instance_dropout": 0.0} | stored["model"]
    if "seed" in (encoder := stored["model"].get("encoder") or {}):
        stored["model"]["encoder"] = {"num_networks": 1} | encoder
    begun = read_environment(folder)
    try:
        before = provenance.current(portable(stored), begun)
    except (AttributeError, KeyError, TypeError):
        raise InputError(f"{folder / 'environment.json'} is damaged; remove the folder") from None
    found = provenance.changes(before, provenance.facts(portable(config), environment))
    only_read = all(is_done(folder, fold) for fold in asked)
    if only_read:
        found = [change for change in found if not provenance.is_arithmetic(change)]
    if not found:
        return
    if only_read or not config["resume"]["allow_changes"]:
        advice = "choose another name=..., or remove the folder"
        if not only_read:
            advice += "; or resume.allow_changes=true goes on all the same, and records this"
        raise InputError(
            [f"run folder {folder}: {provenance.described(change)}" for change in found]
            + [f"run folder {folder}: {advice}"]
        )
    write_json(folder / "environment.json", provenance.recorded(begun, found))


def read_environment(folder: Path) -> dict[str, Any]:
    """Raises InputError where the file is damaged."""
    path = folder / "environment.json"
    try:
        return provenance.checked(read_mapping(path, "remove the folder"))
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; remove the folder") from None


def stored_threads(folder: Path) -> int | None:
    """Of the run's arithmetic; None where it has not been begun, or does not tell."""
    begun = (folder / "environment.json").exists()
    return read_environment(folder).get("threads") if begun else None


def read_config(folder: Path) -> dict[str, Any] | None:
    """The configuration that the run was begun with; None where it has not been begun."""
    path = folder / "config.yaml"
    if not path.exists():
        return None
    return read_mapping(path, "remove the folder")


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """What lies in the run folder itself is written by one process at a time; the others wait."""
    with FileLock(folder / ".lock"):
        remove_stale_temp_files(folder, WRITTEN)
        yield


def write_or_verify_folds(folder: Path, folds: pd.DataFrame, given: str | None) -> None:
    """Write `folds.csv`, or raise InputError where the run was begun with other folds."""
    path = folder / "folds.csv"
    if not path.exists():
        with run_lock(folder):
            write_csv(path, folds)
    elif given and not _same_folds(read_predictions_csv(path, ("patient", "fold")), folds):
        raise InputError(
            f"data.folds_csv={given}: its content has changed since run {folder} was begun; "
            f"choose another name=..., or remove the folder"
        )


def _same_folds(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    columns = ["patient", "fold"]
    first, second = (table[columns].sort_values(columns).to_numpy() for table in (one, other))
    return first.shape == second.shape and bool((first == second).all())


def selected_epoch(folder: Path, fold: int) -> int | None:
    """Of a finished fold: the epoch that its inner split chose; None where it reports the last."""
    epoch = read_mapping(fold_folder(folder, fold) / "done.json", "remove the fold's folder").get(
        "selected_epoch"
    )
    return None if epoch is None else int(epoch)


def read_predictions(folder: Path, folds: list[int]) -> pd.DataFrame:
    """The out-of-fold predictions of these folds: patient, fold, label, probability."""
    parts = [read_predictions_csv(fold_folder(folder, fold) / "predictions.csv") for fold in folds]
    return pd.concat(parts, ignore_index=True)


def read_histories(folder: Path, folds: list[int]) -> dict[int, pd.DataFrame]:
    return {fold: pd.read_csv(fold_folder(folder, fold) / "history.csv") for fold in folds}
