"""Print the scores of a finished run, or the finished folds of an unfinished one."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lymphoml.evaluation.pooled import pool
from lymphoml.reports.format import TITLES, baseline_title, format_estimate, format_score
from lymphoml.runs.finished_run import Run, read_run, siblings
from lymphoml.runs.run_folder import fold_folder
from lymphoml.runs.tables import read_predictions_csv

CHANCE = {"balanced_accuracy": 0.5, "auroc": 0.5, "specificity_at_95": 0.05}


def print_run(folder: Path, console: Console | None = None) -> None:
    console = console or Console(soft_wrap=True)
    if not (folder / "metrics.json").exists():
        lines = _unfinished_lines(folder)
    else:
        run = read_run(folder)
        console.print(_fold_table(run))
        lines = _score_lines(run)
    for line in lines:
        console.print(line, markup=False)


def _fold_table(run: Run) -> Table:
    table = Table(title=escape(str(run.path)), title_justify="left")
    for name in ("fold", "patients", "balanced accuracy \\[95 %]", "AUROC \\[95 %]",
                 "best epoch, optimistic"):  # fmt: skip
        table.add_column(name, justify="right")
    for fold in run.metrics["folds"]:
        best = "-"
        if fold["best_epoch"] is not None:  # metrics.json counts from 0, the progress bar from 1
            best = (
                f"{format_score(fold['best_epoch_balanced_accuracy'])} at {fold['best_epoch'] + 1}"
            )
        scores = [
            format_estimate({"value": fold[name], "low": fold.get(f"{name}_low"),
                             "high": fold.get(f"{name}_high")})
            for name in ("balanced_accuracy", "auroc")
        ]  # fmt: skip
        table.add_row(str(fold["fold"]), str(fold["n"]), *map(escape, scores), best)
    return table


def _score_lines(run: Run) -> Iterator[str]:
    """The scores with their chance level, and the clinical baseline's in the same folds."""
    metrics = run.metrics
    yield f"out of fold, {metrics['n_patients']} patients, 95 % intervals:"
    yield from _strata_lines(metrics, metrics.get("hard_max"))
    if nested := (metrics.get("thresholds") or {}).get("nested_95"):
        rates = (
            f"{name} {format_estimate(nested[name])}" for name in ("sensitivity", "specificity")
        )
        yield _line("thresholds from the other folds", ", ".join(rates))
    if images := metrics.get("image_gain"):
        scores = metrics["baselines"][images["reference"]]["all"]
        gain = format_estimate(images["all"]["auroc"], signed=True)
        name = f"AUROC of {baseline_title(images['reference'])}"
        yield _line(name, f"{format_estimate(scores['auroc'])}   gain {gain}")
    best = metrics["best_epoch_balanced_accuracy"]
    values = f"{format_score(best['mean'])} ± {format_score(best['std'])}"
    yield _line("best epochs", f"{values}   optimistic: chosen on the fold they are scored on")
    if averaged := metrics.get("averaged"):
        yield f"mean probability over {averaged['repeats']} repeats, as predict.py averages models:"
        yield from _strata_lines(averaged, metrics.get("hard_max"))
    yield _line(f"configurations in {run.path.parent}", str(len(siblings(run.path))))
    for change in run.changes:
        yield f"  resumed in a changed environment: {change}"


def _strata_lines(metrics: Mapping[str, Any], hard_max: float | None) -> Iterator[str]:
    hard = "hard stratum" if hard_max is None else f"hard stratum (up to {hard_max:g})"
    for stratum, where in (("all", ""), ("hard", f", {hard}")):
        for score in ("balanced_accuracy", "auroc"):
            yield from _score_line(metrics, stratum, score, where)
    yield from _score_line(metrics, "all", "specificity_at_95", "")


def _score_line(metrics: Mapping[str, Any], stratum: str, score: str, where: str) -> Iterator[str]:
    """Nothing where the run has no such stratum."""
    scores, gain = metrics["scores"].get(stratum) or {}, metrics["gain"]
    if score not in scores:
        return
    text = f"{format_estimate(scores[score])}   chance {CHANCE[score]:g}"
    if gain and gain[stratum]:
        clinical = metrics["baselines"][gain["reference"]][stratum][score]
        text += f"   clinical values alone {format_estimate(clinical)}"
        if score in gain[stratum]:
            text += f"   gain {format_estimate(gain[stratum][score], signed=True)}"
    yield _line(TITLES[score] + where, text)


def _line(name: str, text: str) -> str:
    return f"  {name:46}{text}"


def _unfinished_lines(folder: Path) -> Iterator[str]:
    folds = read_predictions_csv(folder / "folds.csv", ["fold"])["fold"]
    for fold in sorted(folds.unique().tolist()):
        path = fold_folder(folder, fold)
        if (path / "done.json").exists():
            rows = read_predictions_csv(path / "predictions.csv")
            score = pool(rows, 1, ["balanced_accuracy"])["balanced_accuracy"]
            yield f"fold {fold}: balanced accuracy {format_estimate(score)}, {len(rows)} patients"
        else:
            yield f"fold {fold}: not done"
