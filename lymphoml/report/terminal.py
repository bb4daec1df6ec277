"""The end of a training in the terminal: folds, the pooled score, and what stands beside it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lymphoml.evaluation.pooled import pool
from lymphoml.report.runs import read_run, siblings
from lymphoml.report.wording import baseline_name
from lymphoml.runs import fold_folder, read_table

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
    if run.pretraining:
        console.print(f"  {run.pretraining}", markup=False)
    for line in run.drift:
        console.print(f"  drifted, {line}", markup=False)


def _of_fold(row: Mapping[str, Any], score: str) -> str:
    low, high = (row.get(f"{score}_{limit}") for limit in ("low", "high"))
    return _interval({"value": row[score], "low": low, "high": high})


def _account(metrics: dict[str, Any]) -> Iterator[str]:
    """The scores, each beside what the clinical values alone reach in the same folds."""
    best, gain = metrics["best_epoch_balanced_accuracy"], metrics["gain"]
    yield f"out of fold, {metrics['n_patients']} patients, 95 % intervals:"
    parts = {"everybody": ""}
    if metrics["scores"]["hard"]:
        parts["hard"] = f", hard stratum (up to {metrics['hard_cut']:g})"
    for part, where in parts.items():
        for score, name in (("balanced_accuracy", "balanced accuracy"), ("auroc", "AUROC")):
            line = f"  {name + where:46}{_interval(metrics['scores'][part][score])}   chance 0.5"
            if gain and gain[part]:
                clinical = metrics["baselines"][gain["reference"]][part][score]
                line += f"   clinical values alone {_interval(clinical)}"
                line += f"   gain {_interval(gain[part][score], sign='+')}"
            yield line
    if images := metrics.get("image_gain"):
        scores = metrics["baselines"][images["reference"]]["everybody"]
        yield (
            f"  {baseline_name(images['reference']) + ', AUROC':46}{_interval(scores['auroc'])}"
            f"   gain {_interval(images['everybody']['auroc'], sign='+')}"
        )
    yield (
        f"  {'best epochs':46}{_number(best['mean'])} ± {_number(best['std'])}   optimistic: each "
        f"chosen on the fold it is scored on"
    )


def _print_unfinished(folder: Path, console: Console) -> None:
    folds = sorted(read_table(folder / "folds.csv")["fold"].unique().tolist())
    for fold in folds:
        path = fold_folder(folder, fold)
        if (path / "done.json").exists():
            rows = read_table(path / "predictions.csv")
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
