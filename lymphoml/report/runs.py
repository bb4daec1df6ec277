"""Finished run folders, read back: all that a report knows of a training."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lymphoml import drift, foreign, seen
from lymphoml.containment import refuse_links
from lymphoml.data.validation import SAFE_ID
from lymphoml.errors import InputError, one_line, quoted
from lymphoml.foreign import harmless, read_bytes

AGAIN = "run the same train.py command again"
RANGES = {"fold": (0, 10_000), "label": (0, 1), "probability": (0, 1)}
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
        return drift.summary(self.environment.get(drift.KEY, []))

    @property
    def pretraining(self) -> str | None:
        """Which images the encoder saw beforehand; None where it was not pretrained."""
        told = self.metrics.get(seen.ACCOUNT)
        return None if told is None else seen.described(told)

    @property
    def transductive(self) -> bool:
        """Whether unlabelled patients' images were among them."""
        return bool((self.metrics.get(seen.ACCOUNT) or {}).get("transductive"))

    @property
    def repeat(self) -> pd.Series:
        """Which repeat of the cross-validation each row of `predictions` belongs to."""
        return self.predictions["fold"] // self.config["data"]["folds"]


def read_run(path: Path) -> Run:
    """The finished run in folder `path`; InputError where it is none, unfinished or damaged."""
    refuse_links(path)
    if not (path / "config.yaml").is_file():
        raise InputError(f"{path} is no run: it has no config.yaml; give a folder of train.py")
    if (gap := _missing(path)) is not None:
        raise InputError(f"{path} is not finished: {gap}; {AGAIN}")
    folds = read_columns(path / "folds.csv", ("patient", "fold"))
    numbers = _numbers(folds)
    done = [read_mapping(path / f"fold-{fold}" / "done.json") for fold in numbers]
    return Run(
        path=path,
        config=read_mapping(path / "config.yaml"),
        environment=read_mapping(path / "environment.json")
        if _has(path, "environment.json")
        else {},
        metrics=_metrics(path / "metrics.json"),
        folds=folds,
        predictions=read_columns(
            path / "predictions.csv", ("patient", "fold", "label", "probability")
        ),
        histories={
            fold: read_columns(path / f"fold-{fold}" / "history.csv", HISTORY) for fold in numbers
        },
        seconds=sum(fold["seconds"] for fold in done)
        if all("seconds" in fold for fold in done)
        else None,
    )


def _metrics(path: Path) -> dict[str, Any]:
    metrics = read_mapping(path)
    if seen.ACCOUNT in metrics:
        try:
            seen.checked(metrics[seen.ACCOUNT])
        except ValueError as error:
            raise InputError(f"{path}: {error}; remove it, and {AGAIN}") from None
    return metrics


def siblings(path: Path) -> list[Path]:
    """The runs beside this one, itself included, begun or finished: what has been tried."""
    folder = path.resolve().parent
    return sorted(each for each in folder.iterdir() if _has(each, "config.yaml"))


def find_runs(folder: Path) -> list[Path]:
    """The runs of a sweep: the sub-folders of `folder`, by name.

    Raises InputError naming every unfinished one, since a table that leaves out the jobs that
    failed says something else than the sweep.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of a sweep, runs/NAME")
    if _has(folder, "config.yaml"):
        raise InputError(f"{folder} is one run; give the folder that holds a sweep's runs")
    paths = sorted(path for path in folder.iterdir() if _may_be_run(path))
    for path in paths:
        refuse_links(path)
    if not paths:
        raise InputError(f"{folder} holds no run; give the folder of a sweep, runs/NAME")
    gaps = [(path, _missing(path)) for path in paths]
    if problems := [
        f"{path} is not finished: {gap}; {AGAIN}, or remove the folder"
        for path, gap in gaps
        if gap is not None
    ]:
        raise InputError(problems)
    return paths


def _may_be_run(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".") and path.name != "wandb"


def _missing(path: Path) -> str | None:
    """What keeps the run from being finished."""
    for name in ("config.yaml", "folds.csv"):
        if not _has(path, name):
            return f"it has no {name}"
    wanted = _numbers(read_columns(path / "folds.csv", ("patient", "fold")))
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


def read_columns(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """A csv file; its patients stay text, 007 as well as NA."""
    try:
        content = io.BytesIO(read_bytes(path))
        table = pd.read_csv(content, dtype={"patient": str}, na_filter="patient" not in columns)
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"{path} cannot be read: {_reason(error)}; {AGAIN}") from None
    if lacking := [column for column in columns if column not in table]:
        raise InputError(f"{path} has no column {', '.join(lacking)}; {AGAIN}")
    if problem := _wrong_cell(table, columns):
        raise InputError(f"{path}: {problem}; {AGAIN}")
    return table


def _wrong_cell(table: pd.DataFrame, columns: Sequence[str]) -> str | None:
    """An id that would be a formula in a spreadsheet, a number that is none."""
    for name in ("patient", "image"):
        if name in columns:
            odd = ~table[name].astype(str).map(harmless)
            if name == "patient":
                odd |= ~table[name].astype(str).str.fullmatch(SAFE_ID)
            if odd.any():
                return f"{quoted(str(table[name][odd].iloc[0]), 60)} is no {name}'s name"
    for name, (low, high) in RANGES.items():
        if name in columns:
            numbers = pd.to_numeric(table[name], errors="coerce")
            wrong = ~numbers.between(low, high)
            if name != "probability":
                wrong |= numbers != numbers.round()
            if wrong.any():
                row = table[wrong].iloc[0]
                whose = f"patient {row['patient']} has" if "patient" in columns else "there is"
                return f"{whose} a {name} that is none, {quoted(str(row[name]), 60)}"
    return None


def _reason(error: Exception) -> str:
    told = (error.strerror or "") if isinstance(error, OSError) else ""
    return told or one_line(error)[:200]


def read_mapping(path: Path) -> dict[str, Any]:
    """A yaml or json file that holds a mapping."""
    return foreign.read_mapping(path, AGAIN)
