"""The end of a training in the terminal: folds, the pooled score, and what stands beside it."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lymphoml.evaluation.metrics import score_fold
from lymphoml.report.runs import read_run
from lymphoml.runs import fold_folder, read_table


def print_run(folder: Path, console: Console | None = None) -> None:
    """The fold table of a finished run, or the folds that are done."""
    console = console or Console(soft_wrap=True)
    if not (folder / "metrics.json").exists():
        _print_unfinished(folder, console)
        return
    run = read_run(folder)
    table = Table(title=str(folder), title_justify="left")
    for name in ("fold", "patients", "balanced accuracy", "AUROC", "best epoch (optimistic)"):
        table.add_column(name, justify="right")
    for row in run.metrics["folds"]:
        table.add_row(
            str(row["fold"]),
            str(row["n"]),
            _number(row["balanced_accuracy"]),
            _number(row["auroc"]),
            _best_epoch(row),
        )
    console.print(table)
    best = run.metrics["best_epoch_balanced_accuracy"]
    clinical = run.metrics["baseline"].get("clinical")
    console.print(f"out of fold, {run.metrics['n_patients']} patients, 95 % intervals:")
    for name, score in (("balanced accuracy", "balanced_accuracy"), ("AUROC", "auroc")):
        line = f"  {name:18}{_interval(run.metrics[score])}   chance 0.5"
        if clinical:
            line += f"   clinical values alone {_interval(clinical[score])}"
        console.print(line)
    console.print(
        f"  best epochs       {_number(best['mean'])} ± {_number(best['std'])}   optimistic: each "
        f"chosen on the fold it is scored on"
    )


def _print_unfinished(folder: Path, console: Console) -> None:
    folds = sorted(read_table(folder / "folds.csv")["fold"].unique().tolist())
    for fold in folds:
        path = fold_folder(folder, fold)
        if (path / "done.json").exists():
            rows = read_table(path / "predictions.csv")
            score = score_fold(rows["label"], rows["probability"])["balanced_accuracy"]
            console.print(f"fold {fold}: balanced accuracy {_number(score)}, {len(rows)} patients")
        else:
            console.print(f"fold {fold}: not done")


def _best_epoch(row: dict[str, Any]) -> str:
    """Counted from 1, as the progress bar does; `metrics.json` counts from 0."""
    if row["best_epoch"] is None:
        return "-"
    return f"{_number(row['best_epoch_balanced_accuracy'])} at {row['best_epoch'] + 1}"


def _interval(score: dict[str, float | None]) -> str:
    return f"{_number(score['value'])} [{_number(score['low'])}, {_number(score['high'])}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
