"""Print the scores of a finished run, or the finished folds of an unfinished one."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lymphoml.core.errors import printable
from lymphoml.data.persons import describe_persons
from lymphoml.evaluation.pooled import pool
from lymphoml.evaluation.summary import HEADLINE
from lymphoml.reports.format import (
    TITLES,
    baseline_title,
    format_count,
    format_estimate,
    format_score,
    wide_console,
)
from lymphoml.reports.results import without_several_records
from lymphoml.runs.checksums import is_complete
from lymphoml.runs.finished_run import Run, read_run, siblings
from lymphoml.runs.run_folder import fold_folder, read_predictions_csv

SHOWN = (("all", "balanced_accuracy"), ("all", "auroc"), ("hard", "balanced_accuracy"),
         ("hard", "auroc"), ("all", "specificity_at_95"))  # fmt: skip
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
    folds = read_predictions_csv(folder / "folds.csv", ["fold"])["fold"]
    for fold in sorted(folds.unique().tolist()):
        path = fold_folder(folder, fold)
        if not (path / "done.json").exists():
            yield f"fold {fold}: not done"
            continue
        rows = read_predictions_csv(path / "predictions.csv")
        score = pool(rows, 1, ["balanced_accuracy"])["balanced_accuracy"]
        yield f"fold {fold}: balanced accuracy {format_estimate(score)}, {len(rows)} patients"
