"""The run folder: what a job leaves behind, and all that anything after training may read."""

import importlib.metadata
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock, Timeout

from lymphoml.errors import InputError
from lymphoml.files import write_json, write_text

# May differ between two calls on one run folder: they change where and how, never what.
FREE = {"fold", "name", "tags", "logger", "data.root", "data.cache", "data.workers",
        "trainer.progress", "trainer.threads"}  # fmt: skip
PACKAGES = ("lymphoml", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "timm",
            "numpy", "pandas", "scikit-learn", "pillow", "hydra-core")  # fmt: skip


def claim(folder: Path, config: dict[str, Any], environment: dict[str, Any]) -> None:
    """Make `folder` the run of this configuration and data, or check that it already is.

    Raises InputError where the folder holds a run of another configuration or of other data.
    """
    if (folder / "config.yaml").exists():
        stored = yaml.safe_load((folder / "config.yaml").read_text())
        problems = [
            f"run folder {folder}: {key} is {old!r} there and {new!r} now; "
            f"choose another name=..., or remove the folder"
            for key, old, new in _differences(stored, config)
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
    """A CSV whose patients stay text: an id of 007 is no number."""
    return pd.read_csv(path, dtype={"patient": str})


def write_table(path: Path, table: pd.DataFrame) -> None:
    write_text(path, table.to_csv(index=False))


def describe_environment(
    data_fingerprint: str, words: Sequence[str], hardware: str, settings: str
) -> dict[str, Any]:
    """What it takes to make the run again; no path, host or user."""
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "versions": {name: version for name, version in versions.items() if version},
        "git_commit": _git_commit(),
        "data_fingerprint": data_fingerprint,
        "command": " ".join(["python train.py", *map(_without_folders, words)]),
        "hardware": hardware,
        "settings": settings,
    }


def _differences(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differences(old.get(key), new.get(key), f"{prefix}.{key}".lstrip("."))
    elif old != new and not any(prefix == key or prefix.startswith(f"{key}.") for key in FREE):
        yield prefix, old, new


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _without_folders(word: str) -> str:
    """Of an absolute path only the last part: the folders above tell of the machine."""
    key, equals, value = word.rpartition("=")
    return f"{key}{equals}{Path(value).name if Path(value).is_absolute() else value}"
