"""The run folder: what a job writes, and all that anything after training may read."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml
from filelock import FileLock

from lymphoml.core.errors import InputError, one_line, quoted
from lymphoml.core.files import remove_stale_temp_files, write_csv, write_json, write_text
from lymphoml.core.privacy import portable
from lymphoml.core.untrusted import is_safe_text, read_csv, read_mapping, reject_symlinks
from lymphoml.data.columns import SAFE_ID
from lymphoml.runs.checksums import FILES, SUMS
from lymphoml.runs.fold_lock import fold_folder, is_done
from lymphoml.runs.provenance import Change, differences, provenance, read_changes, record

if TYPE_CHECKING:  # a command that reads runs needs no schema
    from lymphoml.runs.settings import TrainConfig

REMOVE, RERUN = "remove the folder", "run the same train.py command again"
ROW_KEYS = ["patient", "fold"]
SUBGROUPS = "strata.csv"
PREDICTIONS = (*ROW_KEYS, "label", "probability")
RANGES = {"fold": (0, 10_000), "label": (0, 1), "probability": (0, 1)}


def check_same_run(
    folder: Path, config: "TrainConfig", environment: Mapping[str, Any]
) -> list[Change]:
    """Return what changed since the run in `folder` was started; nothing of a new run.

    `environment` is the content of `environment.json`, or as much of it as is known. Raises
    InputError, a line a change, unless `resume.allow_changes` is set and a fold is left to train. A
    finished run is only read: changed code, libraries or hardware do not matter to it.
    """
    stored = read_config(folder)
    if stored is None:
        return []
    try:
        before = provenance(stored, read_environment(folder))
    except (AttributeError, KeyError, TypeError):
        raise InputError(f"{folder / 'environment.json'} is damaged; {REMOVE}") from None
    changes = differences(before, provenance(config.to_dict(), environment))
    finished = all(is_done(folder, fold) for fold in config.folds_to_train)
    if finished:
        changes = [change for change in changes if not change.is_arithmetic]
    if changes and (finished or not config.resume.allow_changes):
        advice = f"Choose another name=..., or {REMOVE}."
        if not finished:
            advice += " resume.allow_changes=true resumes all the same, and records the changes."
        raise InputError([f"run folder {folder}: {line}" for line in (*changes, advice)])
    return changes


def create_or_open_run(
    folder: Path, config: "TrainConfig", environment: dict[str, Any]
) -> dict[str, Any]:
    """Make `folder` the run of this configuration and environment, or check that it already is.

    Returns the environment of the run: of jobs that start together, the first one's chunk size
    holds where it is `auto`. Raises InputError as `check_same_run` does; `environment.json` records
    the changes that are allowed.
    """
    reject_symlinks(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with run_lock(folder):
        if read_config(folder) is None:
            write_json(folder / "environment.json", environment)
            content = yaml.safe_dump(portable(config.to_dict()), sort_keys=False)
            write_text(folder / "config.yaml", content)
            return environment
        stored = read_environment(folder)
        if config.trainer.encoder_chunk_size == "auto" and "resolved" in stored:
            chunk = {"encoder_chunk_size": stored["resolved"]["encoder_chunk_size"]}
            environment = environment | {"resolved": environment["resolved"] | chunk}
        if changes := check_same_run(folder, config, environment):
            write_json(folder / "environment.json", record(stored, changes))
    return environment


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Let one process at a time write the files of the run itself; the others wait."""
    with FileLock(folder / ".lock"):
        remove_stale_temp_files(folder, (*FILES, SUMS))
        yield


def write_or_verify_folds(folder: Path, folds: pd.DataFrame) -> None:
    """Write `folds.csv`; InputError where the user's file, or sites, give other folds by now."""
    path = folder / "folds.csv"
    if not path.exists():
        with run_lock(folder):
            write_csv(path, folds)
    elif row_keys(read_folds_csv(folder)) != row_keys(folds):
        raise InputError(
            f"run {folder}: its folds.csv has other folds than data.folds_csv, or the cohort's "
            f"sites, give by now. Choose another name=..., or {REMOVE}."
        )


def row_keys(table: pd.DataFrame) -> set[tuple[str, int]]:
    return set(table[ROW_KEYS].itertuples(index=False, name=None))


def read_config(folder: Path) -> dict[str, Any] | None:
    """Return the stored configuration; None where there is no run yet."""
    path = folder / "config.yaml"
    return read_mapping(path, REMOVE) if path.exists() else None


def read_environment(folder: Path) -> dict[str, Any]:
    """Return the content of `environment.json`, {} without one; InputError where it is damaged."""
    path = folder / "environment.json"
    if not path.exists():
        return {}
    environment = read_mapping(path, REMOVE)
    try:
        for key, kind, name in (("data_fingerprint", str, "text"), ("resolved", dict, "a mapping")):
            if not isinstance(environment.get(key, kind()), kind):
                raise ValueError(f"{key} is not {name}")
        read_changes(environment)
        return environment
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; {REMOVE}") from None


def all_folds(run: Path) -> list[int]:
    """Return the folds of a run, finished or not."""
    return sorted(read_folds_csv(run)["fold"].unique().tolist())


def named_folds(run: Path, folds: Sequence[int]) -> list[int]:
    """Return `folds` in order, each once; none where they are all of the run's."""
    every, named = all_folds(run), sorted({*folds})
    if unknown := [fold for fold in named if fold not in every]:
        raise InputError(f"folds={unknown}: the folds of {run} are {every}")
    return [] if named == every else named


def describe_unfinished(run: Path, folds: Sequence[int]) -> str | None:
    """Return which of these folds are not finished, which are, and the command for all."""
    if not (missing := [fold for fold in folds if not is_done(run, fold)]):
        return None
    command = re.sub(r" fold=\S+", "", str(read_environment(run).get("command", RERUN)))
    finished = [fold for fold in all_folds(run) if is_done(run, fold)]
    return f"it lacks folds {missing} and has {finished or 'none'}; the command for all: {command}"


def selected_epoch(folder: Path, fold: int) -> int | None:
    """Return a finished fold's epoch that its inner split chose; None where the last one counts."""
    done = read_mapping(fold_folder(folder, fold) / "done.json", "remove the fold's folder")
    epoch = done.get("selected_epoch")
    return None if epoch is None else int(epoch)


def read_predictions(folder: Path, folds: Sequence[int]) -> pd.DataFrame:
    """Return these folds' out-of-fold predictions as `read_out_of_fold` does."""
    tables = [read_out_of_fold(fold_folder(folder, fold)) for fold in folds]
    return pd.concat(tables, ignore_index=True)


def read_out_of_fold(folder: Path) -> pd.DataFrame:
    """Return the out-of-fold predictions in a folder of a run or fold.

    Columns: patient, fold, label, probability and outside_range: why the patient lies outside the
    range of the training patients, "" within.
    """
    table, columns = read_predictions_csv(folder / "predictions.csv"), [*ROW_KEYS, "outside_range"]
    if not (path := folder / "outside_range.csv").exists():
        return table.assign(outside_range="")
    reasons = read_predictions_csv(path, columns)[columns].drop_duplicates(ROW_KEYS)
    return table.merge(reasons, "left", ROW_KEYS).fillna({"outside_range": ""})


def write_out_of_fold(folder: Path, predictions: pd.DataFrame) -> None:
    """Write what `read_out_of_fold` reads; `outside_range.csv` has the rows with a reason."""
    outside = predictions[predictions["outside_range"] != ""]
    write_csv(folder / "outside_range.csv", outside[[*ROW_KEYS, "outside_range"]])
    write_csv(folder / "predictions.csv", predictions[list(PREDICTIONS)])


def read_folds_csv(run: Path) -> pd.DataFrame:
    """Return the table `patient, fold` of a run."""
    return read_predictions_csv(run / "folds.csv", ROW_KEYS)


def read_predictions_csv(path: Path, columns: Sequence[str] = PREDICTIONS) -> pd.DataFrame:
    """Return a run's table, which must have these columns; patients stay text, 007 as well as NA.

    Raises InputError for an id that is a formula in a spreadsheet or a value out of range.
    """
    try:
        # Of subgroups every value is a name: site 01 is not site 1.
        text = str if path.name == SUBGROUPS else {"patient": str, "image": str}
        table = read_csv(path, dtype=text, na_filter="patient" not in columns)
    except (OSError, ValueError, OverflowError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or one_line(error)[:200]
        raise InputError(f"{path} cannot be read: {reason}; {RERUN}") from None
    if missing := [column for column in columns if column not in table]:
        raise InputError(f"{path} has no column {', '.join(missing)}; {RERUN}")
    if problem := _invalid_cell(table, columns):
        raise InputError(f"{path}: {problem}; {RERUN}")
    return table


def _invalid_cell(table: pd.DataFrame, columns: Sequence[str]) -> str | None:
    for name in ("patient", "image"):
        if name in columns:
            invalid = ~table[name].astype(str).map(is_safe_text)
            if name == "patient":
                invalid |= ~table[name].astype(str).str.fullmatch(SAFE_ID)
            if invalid.any():
                return f"{quoted(str(table[name][invalid].iloc[0]), 60)} is not a valid {name}"
    for name, (low, high) in RANGES.items():
        if name in columns:
            numbers = pd.to_numeric(table[name], errors="coerce")
            invalid = ~numbers.between(low, high)
            if name != "probability":
                invalid |= numbers != numbers.round()
            if invalid.any():
                row = table[invalid].iloc[0]
                where = f" of patient {row['patient']}" if "patient" in columns else ""
                return f"{name}{where} is {quoted(str(row[name]), 60)}, must be {low} to {high}"
    return None
