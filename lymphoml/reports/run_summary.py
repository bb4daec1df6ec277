"""The end of a training in the terminal: folds, the pooled score, and what stands beside it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lymphoml.evaluation.pooled import pool
from lymphoml.reports.page.wording import baseline_name
from lymphoml.runs.finished_run import read_run, siblings
from lymphoml.runs.run_folder import fold_folder
from lymphoml.runs.tables import read_predictions_csv

NAMES = {
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "specificity_at_95": "specificity at sensitivity 0.95",
}
CHANCE = {"balanced_accuracy": 0.5, "auroc": 0.5, "specificity_at_95": 0.05}
OLD = "scored by an earlier version; remove metrics.json and give the run's command again"


def print_run(folder: Path, console: Console | None = None) -> None:
    """The fold table of a finished run, or the folds that are done."""
    console = console or Console(soft_wrap=True)
    if not (folder / "metrics.json").exists():
        _print_unfinished(folder, console)
        return
    run = read_run(folder)
    table = Table(title=escape(str(folder)), title_justify="left")
    for name in (
        "fold", "patients", "balanced accuracy \\[95 %]", "AUROC \\[95 %]",
        "best epoch, optimistic",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    for row in run.metrics["folds"]:
        table.add_row(
            str(row["fold"]),
            str(row["n"]),
            escape(_of_fold(row, "balanced_accuracy")),
            escape(_of_fold(row, "auroc")),
            _best_epoch(row),
        )
    console.print(table)
    for line in _account(run.metrics) if "scores" in run.metrics else [OLD]:
        console.print(line, markup=False)
    tried = f"configurations tried, in {run.path.parent}"
    console.print(f"  {tried}: {len(siblings(run.path))}", markup=False)
    for line in run.changes:
        console.print(f"  drifted, {line}", markup=False)


def _of_fold(row: Mapping[str, Any], score: str) -> str:
    low, high = (row.get(f"{score}_{limit}") for limit in ("low", "high"))
    return _interval({"value": row[score], "low": low, "high": high})


def _account(metrics: dict[str, Any]) -> Iterator[str]:
    """The scores, each beside what the clinical values alone reach in the same folds."""
    best, cut = metrics["best_epoch_balanced_accuracy"], metrics.get("hard_max")
    yield f"out of fold, {metrics['n_patients']} patients, 95 % intervals:"
    yield from _scores(metrics, cut)
    if nested := (metrics.get("thresholds") or {}).get("nested_95"):
        rates = (f"{name} {_interval(nested[name])}" for name in ("sensitivity", "specificity"))
        yield _line("  thresholds from the other folds", ", ".join(rates))
    if images := metrics.get("image_gain"):
        scores = metrics["baselines"][images["reference"]]["all"]
        gain = _interval(images["all"]["auroc"], sign="+")
        name = f"{baseline_name(images['reference'])}, AUROC"
        yield _line(name, f"{_interval(scores['auroc'])}   gain {gain}")
    told = f"{_number(best['mean'])} ± {_number(best['std'])}"
    yield _line("best epochs", f"{told}   optimistic: each chosen on the fold it is scored on")
    if averaged := metrics.get("averaged"):
        yield f"each patient averaged over {averaged['repeats']} repeats, as predict does:"
        yield from _scores(averaged, cut)


def _scores(told: Mapping[str, Any], cut: float | None) -> Iterator[str]:
    """A line a score and stratum; what the run or its stratum does not tell is left out."""
    hard = "hard stratum" if cut is None else f"hard stratum (up to {cut:g})"
    for part, where in (("all", ""), ("hard", f", {hard}")):
        for score in ("balanced_accuracy", "auroc"):
            yield from _score(told, part, score, where)
    yield from _score(told, "all", "specificity_at_95", "")


def _score(told: Mapping[str, Any], part: str, score: str, where: str) -> Iterator[str]:
    scores, gain = told["scores"][part] or {}, told["gain"]
    if score not in scores:
        return
    line = f"{_interval(scores[score])}   chance {CHANCE[score]:g}"
    if gain and gain[part]:
        clinical = told["baselines"][gain["reference"]][part][score]
        line += f"   clinical values alone {_interval(clinical)}"
        if score in gain[part]:
            line += f"   gain {_interval(gain[part][score], sign='+')}"
    yield _line(NAMES[score] + where, line)


def _line(name: str, told: str) -> str:
    return f"  {name:46}{told}"


def _print_unfinished(folder: Path, console: Console) -> None:
    folds = sorted(read_predictions_csv(folder / "folds.csv", ["fold"])["fold"].unique().tolist())
    for fold in folds:
        path = fold_folder(folder, fold)
        if (path / "done.json").exists():
            rows = read_predictions_csv(path / "predictions.csv")
            score = _interval(pool(rows, 1, ["balanced_accuracy"])["balanced_accuracy"])
            line = f"fold {fold}: balanced accuracy {score}, {len(rows)} patients"
            console.print(line, markup=False)
        else:
            console.print(f"fold {fold}: not done")


def _best_epoch(row: dict[str, Any]) -> str:
    """Counted from 1, as the progress bar does; `metrics.json` counts from 0."""
    if row["best_epoch"] is None:
        return "-"
    return f"{_number(row['best_epoch_balanced_accuracy'])} at {row['best_epoch'] + 1}"


def _interval(score: Mapping[str, float | None], sign: str = "") -> str:
    value, low, high = (_number(score[key], sign) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"
