"""One page of several runs: a table that links to the page of each, and their learning curves."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lymphoml.core.errors import InputError
from lymphoml.core.files import write_text
from lymphoml.reports.comparison.compare import elsewhere
from lymphoml.reports.page.chart import forest
from lymphoml.reports.page.choices import Choices
from lymphoml.reports.page.names import run_labels
from lymphoml.reports.page.page import render, write_report
from lymphoml.reports.page.scores import baseline_scores, run_scores
from lymphoml.reports.page.sections.comparison import comparison_content
from lymphoml.reports.page.sweep_chart import sweep_chart
from lymphoml.runs.finished_run import Run, read_run

COLUMNS = ("balanced_accuracy", "auroc", "specificity_at_95")
HARD = ("balanced_accuracy", "auroc")


def write_overview(paths: Sequence[Path], out: Path, choices: Choices | None = None) -> Path:
    """Write each run's own page into its folder, then the page of all to `out`; return `out`.

    Raises InputError, with nothing written, where a run is unfinished or the runs are not of the
    same patients in the same folds: their scores could not stand side by side.
    """
    runs = [read_run(path) for path in dict.fromkeys(paths)]
    if problems := [
        f"{run.path}: other patients or folds than {runs[0].path}; leave it out"
        for run in elsewhere(runs)
    ]:
        raise InputError(problems)
    names = run_labels(runs)
    runs.sort(key=lambda run: -run.metrics["balanced_accuracy"]["value"])
    links = {run.path: write_report(run.path, run.path / "report.html", choices) for run in runs}
    title = f"{len(runs)} runs of {runs[0].config.get('name', out.parent.name)}"
    models = {names[run.path]: run_scores(run) or {} for run in runs} | baseline_scores(runs[0])
    content = {
        "title": title,
        "cohort": runs[0].config["data"].get("name", "cohort"),
        "n": len(runs),
        "patients": runs[0].metrics["n_patients"],
        "rows": [_row(run, names, links, out) for run in runs],
        "chart": forest("forest-accuracy", "balanced_accuracy", models, 230, len(runs)),
        "sweep": sweep_chart(runs),
        "compared": comparison_content(runs, names),
    }
    write_text(out, render(title, "overview", content, []))
    return out


def _row(run: Run, names: dict[Path, str], links: dict[Path, Path], out: Path) -> dict[str, Any]:
    everybody, hard = run_scores(run) or {}, run_scores(run, "hard") or {}
    gain = run.metrics.get("gain") or {}
    return {
        "name": names[run.path],
        "link": _link(links[run.path], out),
        "scores": [everybody.get(key) for key in COLUMNS] + [hard.get(key) for key in HARD],
        "gain": (gain.get("all") or {}).get("balanced_accuracy"),
        "drifted": bool(run.changes),
        "best": run.metrics["best_epoch_balanced_accuracy"]["mean"],
    }


def _link(page: Path, out: Path) -> str | None:
    """None where it would lead up, through folders whose names are not the page's to tell."""
    relative = os.path.relpath(page.resolve(), out.resolve().parent)
    return None if relative.startswith("..") else quote(relative)
