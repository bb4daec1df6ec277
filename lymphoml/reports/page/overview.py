"""Render one page for several runs: scores, paired differences, learning curves, links."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lymphoml.core.files import write_text
from lymphoml.reports.comparison import output
from lymphoml.reports.comparison.compare import Comparison, choose_reference, compare_runs
from lymphoml.reports.comparison.sweep import sweep_chart
from lymphoml.reports.page import Choices
from lymphoml.reports.page.chart import forest
from lymphoml.reports.page.page import render, write_report
from lymphoml.reports.results import STRATA, run_scores, titled_baselines
from lymphoml.reports.run_labels import run_labels
from lymphoml.runs.finished_run import Run, read_run

COLUMNS = [("all", "balanced_accuracy"), ("all", "auroc"), ("all", "specificity_at_95"),
           ("hard", "balanced_accuracy"), ("hard", "auroc")]  # fmt: skip


def write_overview(
    paths: Sequence[Path], out: Path, choices: Choices | None = None, reference: str | None = None,
    tried: int | None = None,
) -> Path:  # fmt: skip
    """Write each run's report, then the page of all, compared by `compare`. Raises InputError."""
    runs = [read_run(path) for path in dict.fromkeys(paths)]
    labels = run_labels(runs)
    comparison = None
    if reference is not None or len(runs) > 1:
        chosen, _ = choose_reference(reference, [run.path for run in runs], is_list=False)
        comparison = compare_runs(list(labels), chosen, tried=tried, labels=labels)
    runs.sort(key=lambda run: -(run.metrics["balanced_accuracy"]["value"] or 0))
    links = {run.path: write_report(run.path, run.path / "report.html", choices) for run in runs}
    title = f"{len(runs)} runs of {runs[0].config.get('name', out.parent.name)}"
    models = {labels[run.path]: run_scores(run) for run in runs} | titled_baselines(runs[0])
    content = {
        "title": title, "cohort": runs[0].config["data"].get("name", "cohort"), "n": len(runs),
        "patients": runs[0].metrics["n_patients"],
        "rows": [_row(run, labels, links, out) for run in runs],
        "forest": forest("balanced_accuracy", models, 230, len(runs)), "sweep": sweep_chart(runs),
        "comparison": comparison and _comparison_content(comparison),
    }  # fmt: skip
    write_text(out, render(title, "overview", content))
    return out


def _row(run: Run, labels: Mapping[Path, str], links: Mapping[Path, Path], out: Path) -> dict:
    gain = (run.metrics.get("gain") or {}).get("all") or {}
    return {
        "name": labels[run.path], "link": _link(links[run.path], out),
        "scores": [run_scores(run, stratum).get(score) for stratum, score in COLUMNS],
        "gain": gain.get("balanced_accuracy"), "changed": bool(run.changes),
        "best_epochs": run.metrics["best_epoch_balanced_accuracy"]["mean"],
    }  # fmt: skip


def _link(page: Path, out: Path) -> str | None:
    """None where it would lead up, through folders whose names are private."""
    relative = os.path.relpath(page.resolve(), out.resolve().parent)
    return None if relative.startswith("..") else quote(relative)


def _comparison_content(comparison: Comparison) -> dict[str, Any]:
    tables, lines = [], []
    for name, stratum in comparison.strata.items():
        where = "" if name == "all" else f", {STRATA[name]}"
        for score, measure in output.NAMES.items():
            rows = stratum.table[stratum.table["score"] == score].to_dict("records")
            rows = [row | {"difference": output.difference_of(row)} for row in rows]
            tables.append((f"{measure[0].upper()}{measure[1:]}{where}", rows))
        prefix = "" if name == "all" else f"{STRATA[name].capitalize()}: "
        found = [*output.detectable_lines(stratum), *output.best_lines(comparison, stratum)]
        lines += [prefix + line for line in found]
    lines += output.run_lines(comparison)
    return {"reference": comparison.reference, "tables": tables, "lines": lines}
