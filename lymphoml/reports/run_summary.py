"""Print the scores of a run, finished or not, and list runs.

A list is made from small files alone: no checkpoint is read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lymphoml.core.errors import InputError, one_line, printable
from lymphoml.core.untrusted import reject_symlinks
from lymphoml.data.persons import describe_persons
from lymphoml.evaluation.pooled import pool
from lymphoml.evaluation.summary import HEADLINE
from lymphoml.reports.format import (
    TITLES,
    baseline_title,
    format_count,
    format_duration,
    format_estimate,
    format_score,
    wide_console,
)
from lymphoml.reports.results import without_several_records
from lymphoml.runs.checksums import is_complete, verify_checksums
from lymphoml.runs.finished_run import HISTORY, Run, read_mapping, read_run, siblings
from lymphoml.runs.fold_lock import fold_folder, is_done, is_locked, lock_path
from lymphoml.runs.run_folder import all_folds, read_predictions_csv

SHOWN = (("all", "balanced_accuracy"), ("all", "auroc"), ("hard", "balanced_accuracy"),
         ("hard", "auroc"), ("all", "specificity_at_95"))  # fmt: skip
COLUMNS = ("run", "folds done", "balanced accuracy \\[95 %]", "time left")
DEPTH = 2  # runs/NAME/SLUG
CHANCE = {"balanced_accuracy": "0.5", "auroc": "0.5", "specificity_at_95": "0.05"}


def print_run(folder: Path, console: Console | None = None) -> None:
    console = console or wide_console()
    if not is_complete(folder):
        for line in _unfinished_lines(folder):
            console.print(line, markup=False)
        return
    run = read_run(folder)
    console.print(_fold_table(run))
    console.print(_score_table("out of fold", run, run.metrics))
    if averaged := run.metrics.get("averaged"):
        title = (
            f"mean probability over {averaged['repeats']} repeats, as predict.py averages models"
        )
        console.print(_score_table(title, run, averaged))
    for line in _lines(run):
        console.print(line, markup=False)


def _fold_table(run: Run) -> Table:
    columns = ["fold", "patients", "balanced accuracy \\[95 %]", "AUROC \\[95 %]",
               "best epoch (optimistic)"]  # fmt: skip
    table = Table(*columns, title=escape(str(run.path)), title_justify="left")
    for fold in run.metrics["folds"]:
        best, epoch = format_score(fold["best_epoch_balanced_accuracy"]), fold["best_epoch"]
        best = "-" if epoch is None else f"{best} at {epoch + 1}"  # the progress bar starts at 1
        limits = ({"value": fold[name], "low": fold[f"{name}_low"], "high": fold[f"{name}_high"]}
                  for name in HEADLINE)  # fmt: skip
        scores = map(format_estimate, limits)
        table.add_row(str(fold["fold"]), str(fold["n"]), *map(escape, scores), best)
    return table


def _score_table(title: str, run: Run, metrics: Mapping[str, Any]) -> Table:
    """A row per score and stratum: the run, chance, the clinical baseline and the gain over it."""
    columns = ["", "run \\[95 %]", "chance", "clinical values alone", "gain"]
    title = f"{title}, {run.metrics['n_patients']} patients"
    table = Table(*columns, title=title, title_justify="left")
    highest = run.metrics.get("hard_max")
    hard = ", hard stratum" if highest is None else f", hard stratum (up to {highest:g})"
    gain = metrics["gain"]
    for stratum, score in SHOWN:
        if not (scores := metrics["scores"].get(stratum)):
            continue
        row = [TITLES[score] + (hard if stratum == "hard" else ""), format_estimate(scores[score]),
               CHANCE[score]]  # fmt: skip
        if gain and gain[stratum]:
            clinical = metrics["baselines"][gain["reference"]][stratum][score]
            difference = gain[stratum].get(score)
            row.append(format_estimate(clinical))
            row.append(format_estimate(difference, signed=True) if difference else "")
        table.add_row(*map(escape, row))
    return table


def _lines(run: Run) -> Iterator[str]:
    metrics = run.metrics
    if nested := (metrics.get("thresholds") or {}).get("nested_95"):
        rates = (
            f"{name} {format_estimate(nested[name])}" for name in ("sensitivity", "specificity")
        )
        yield f"thresholds for 95 % sensitivity from the other folds: {', '.join(rates)}"
    outside = run.predictions["patient"][run.predictions["outside_range"] != ""].nunique()
    if outside:
        who = format_count(outside, "patient")
        yield f"{who} outside the training range of a fold: ruled out in no rate above"
    if images := metrics.get("image_gain"):
        scores = metrics["baselines"][images["reference"]]["all"]
        gain = format_estimate(images["all"]["auroc"], signed=True)
        name = baseline_title(images["reference"])
        yield f"AUROC of {name}: {format_estimate(scores['auroc'])}, gain over it {gain}"
    if persons := metrics.get("persons"):
        yield describe_persons(persons)
    for site in metrics.get("sites") or ():
        scores = [f"{TITLES[name]} {format_estimate(site[name])}" for name in HEADLINE]
        yield f"site {printable(site['site'])}, {site['n']} patients: {', '.join(scores)}"
    for title, averaged in (("", False), (", mean over repeats", True)):
        if scores := without_several_records(run, averaged):
            each = ", ".join(f"{name} {format_estimate(score)}" for name, score in scores.items())
            yield f"without persons of several records{title}: {each}"
    best = metrics["best_epoch_balanced_accuracy"]
    values = f"{format_score(best['mean'])} ± {format_score(best['std'])}"
    yield f"best epochs: {values}, optimistic: chosen on the fold they are scored on"
    yield f"configurations in {run.path.parent}: {len(siblings(run.path))}"
    for change in run.changes:
        yield f"resumed in a changed environment: {change}"


def _unfinished_lines(folder: Path) -> Iterator[str]:
    for fold in all_folds(folder):
        if not is_done(folder, fold):
            yield f"fold {fold}: not done"
            continue
        rows = read_predictions_csv(fold_folder(folder, fold) / "predictions.csv")
        score = pool(rows, 1, ["balanced_accuracy"])["balanced_accuracy"]
        yield f"fold {fold}: balanced accuracy {format_estimate(score)}, {len(rows)} patients"


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
