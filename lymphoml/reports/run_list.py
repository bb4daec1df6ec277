"""List runs, finished or not, from their small files alone: no checkpoint is read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from lymphoml.core.errors import InputError, one_line
from lymphoml.core.untrusted import reject_symlinks
from lymphoml.reports.format import format_duration, format_estimate, wide_console
from lymphoml.runs.checksums import is_complete, verify_checksums
from lymphoml.runs.finished_run import HISTORY, read_mapping
from lymphoml.runs.fold_lock import fold_folder, is_done, is_locked, lock_path
from lymphoml.runs.run_folder import all_folds, read_predictions_csv

COLUMNS = ("run", "folds done", "balanced accuracy \\[95 %]", "time left")
DEPTH = 2  # runs/NAME/SLUG


@dataclass(frozen=True)
class RunStatus:
    """One run as `list` shows it."""

    path: Path
    folds: str = ""  # "3 of 5"; "" before the folds are drawn
    score: str = ""  # headline with interval; "" until the run is finished
    time_left: str = ""  # "finished", "stopped", a duration or what is damaged; "" where unknown


def list_runs(folder: Path) -> list[RunStatus]:
    """Return the runs in `folder`, in its sub-folders and theirs, by name.

    Raises InputError unless it is a folder. Folders of other programs are left out; of a damaged
    run the reason stands in place of the time left.
    """
    if not folder.is_dir():
        raise InputError(f"runs={folder}: no such folder. Give the folder of runs, such as runs.")
    return [_status(path) for path in _run_folders(folder, DEPTH)]


def print_runs(folder: Path) -> None:
    table = Table(*COLUMNS)
    for run in list_runs(folder):
        name = "." if run.path == folder else str(run.path.relative_to(folder))
        table.add_row(*map(escape, (name, run.folds, run.score, run.time_left)))
    wide_console().print(table if table.rows else f"no runs in {folder}")


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    try:
        if all((folder / name).is_file() for name in ("config.yaml", "environment.json")):
            yield folder
        elif depth:
            for path in sorted(folder.iterdir()):
                if path.is_dir() and not path.name.startswith("."):
                    yield from _run_folders(path, depth - 1)
    except PermissionError:
        return


def _status(run: Path) -> RunStatus:
    try:
        reject_symlinks(run)
        folds = all_folds(run) if (run / "folds.csv").is_file() else []
        done = [fold for fold in folds if is_done(run, fold)]
        count = f"{len(done)} of {len(folds)}" if folds else ""
        if is_complete(run):
            verify_checksums(run)
            scores = read_mapping(run / "metrics.json")["scores"]["all"]
            score = format_estimate(scores["balanced_accuracy"])
            return RunStatus(run, count, score, "finished")
        return RunStatus(run, count, time_left=_time_left(run, folds, done))
    except (InputError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        reason = one_line(error) if isinstance(error, InputError | OSError) else "metrics.json"
        return RunStatus(run, time_left=f"damaged: {reason}")


def _time_left(run: Path, folds: list[int], done: list[int]) -> str:
    """Estimate from finished folds, else from the last epoch of a fold that is trained now.

    An early stop may make it shorter.
    """
    left = [fold for fold in folds if fold not in done]
    running = [fold for fold in left if is_locked(run, fold)]
    if not running:
        return "stopped"
    finished = [read_mapping(fold_folder(run, fold) / "done.json") for fold in done]
    if trained := sum(int(each["epochs"]) for each in finished):
        seconds = sum(float(each["seconds"]) for each in finished) / trained
    elif known := [each for fold in running if (each := _last_epoch_seconds(run, fold))]:
        seconds = sum(known) / len(known)
    else:
        return ""
    most = int(read_mapping(run / "config.yaml")["trainer"]["max_epochs"])
    missing = sum(most - _epochs(run, fold) for fold in left)
    return f"about {format_duration(seconds * missing / len(running))}"


def _epochs(run: Path, fold: int) -> int:
    path = fold_folder(run, fold) / "history.csv"
    return len(read_predictions_csv(path, HISTORY)) if path.is_file() else 0


def _last_epoch_seconds(run: Path, fold: int) -> float:
    """Seconds of the last epoch since the fold was started or resumed; 0 before it has one."""
    started = lock_path(run, fold).stat().st_mtime
    names = ("previous.ckpt", "last.ckpt")
    paths = [path for name in names if (path := fold_folder(run, fold) / name).is_file()]
    times = [started, *(time for path in paths if (time := path.stat().st_mtime) > started)]
    return times[-1] - times[-2] if len(times) > 1 else 0.0
