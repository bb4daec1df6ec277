"""Render the report of a run, or of several: HTML that makes no request and needs no script."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from jinja2.runtime import Context
from markupsafe import Markup

from lymphoml.core.errors import InputError
from lymphoml.core.files import write_text
from lymphoml.reports import format as formatting
from lymphoml.reports import repeatability, validation
from lymphoml.reports.comparison import output
from lymphoml.reports.comparison.compare import Comparison, choose_reference, compare_runs
from lymphoml.reports.comparison.sweep import sweep_chart
from lymphoml.reports.page import Choices, background, chart, curves, scores
from lymphoml.reports.page.cells import Cells
from lymphoml.reports.page.evidence import evidence
from lymphoml.reports.page.folds import folds
from lymphoml.reports.page.patients import patient_names, patients
from lymphoml.reports.results import STRATA, run_scores, titled_baselines
from lymphoml.reports.run_labels import run_labels
from lymphoml.runs.finished_run import Run, read_run

HERE = Path(__file__).parent
Draw = Callable[[Context], Iterator[str]]
LIMIT = 7_500_000  # bytes of a page; mail and browsers take 8 MB
COLUMNS = [("all", "balanced_accuracy"), ("all", "auroc"), ("all", "specificity_at_95"),
           ("hard", "balanced_accuracy"), ("hard", "auroc")]  # fmt: skip
SECTIONS = {  # each has the template of its name, and a function that gives the content
    "comparison": ("Scores and baselines", scores.comparison),
    "folds": ("Folds and learning curves", folds),
    "discrimination": ("Discrimination", curves.discrimination),
    "calibration": ("Calibration and decision", curves.calibration),
    "triage": ("Triage", scores.triage),
    "repeatability": ("Repeatability", repeatability.section),
    "subgroups": ("Subgroups", scores.subgroups),
    "validation": ("Validation on other cohorts", validation.section),
    "evidence": ("Evidence", evidence),
    "patients": ("Patients", patients),
    "multiplicity": ("Multiplicity", background.multiplicity),
    "audit": ("Audit of the data", background.audit),
    "tripod": ("TRIPOD+AI", background.tripod),
    "configuration": ("Configuration", background.configuration),
}


def write_report(path: Path, out: Path, choices: Choices | None = None) -> Path:
    """Write the report to `out`, pseudonyms.csv into the run's folder. Raises InputError."""
    choices, run = choices or Choices(), read_run(path)
    data = run.config["data"] | {"follow_links": False} | choices.data
    run = replace(run, config=run.config | {"data": data})
    head = scores.summary(run, choices)
    bare, cells = replace(choices, thumbnails=False), Cells(run)
    pictured = {each.__name__: partial(each, cells=cells) for each in (evidence, patients)}
    sections = {name: content for name, (_, content) in SECTIONS.items()} | pictured
    found = {name: content(run, bare) for name, content in sections.items()}
    contents = {name: content for name, content in found.items() if content}
    title = f"{head['name']} on {head['cohort']}"
    page = render(title, "summary", head, contents)
    if choices.thumbnails:  # pictures fill the space that the rest leaves
        for name, section in pictured.items():
            contents[name] = section(run, choices, room=LIMIT - len(page.encode()))
            page = render(title, "summary", head, contents)
    if not choices.ids:
        names = patient_names(run, ids=False).items()
        rows = "".join(f"{name},{patient}\n" for patient, name in names)
        write_text(run.path / "pseudonyms.csv", f"pseudonym,patient\n{rows}")
    write_text(out, page, private=choices.ids)
    return out


def render(
    title: str, head: str, values: dict[str, Any], contents: dict[str, Any] | None = None
) -> str:
    """The page; `head` and the keys of `contents` name a template, or a block, in `sections`."""
    environment, parts = _templates()

    def part(name: str, content: dict[str, Any]) -> Markup:
        template, draw = parts[name]
        return Markup("".join(draw(template.new_context(content))))

    sections = [
        (name, SECTIONS[name][0], part(name, each)) for name, each in (contents or {}).items()
    ]
    page = environment.get_template("page.html.j2")
    return page.render(title=title, head=part(head, values), sections=sections)


@cache
def _templates() -> tuple[Environment, dict[str, tuple[Template, Draw]]]:
    """Templates and, by name, the parts of a page."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "score": formatting.format_score, "interval": formatting.format_interval,
        "estimate": formatting.format_estimate, "p": formatting.format_p,
        "counted": formatting.format_count, "svg": lambda drawn: Markup(chart.svg(drawn)),
        "legend_key": lambda series: Markup(chart.legend_key(series)),
    }  # fmt: skip
    environment.globals["m"] = environment.get_template("sections/macros.html.j2").module
    parts: dict[str, tuple[Template, Draw]] = {}
    for path in (HERE / "sections").iterdir():
        template = environment.get_template(f"sections/{path.name}")
        whole = {path.name.removesuffix(".html.j2"): template.root_render_func}
        parts |= {name: (template, draw) for name, draw in (template.blocks or whole).items()}
    return environment, parts


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
    elif tried is not None:
        raise InputError(f"tried={tried}: has no effect on one run; give two or more in runs=")
    runs.sort(key=lambda run: -(run.metrics["balanced_accuracy"]["value"] or 0))
    links = {run.path: write_report(run.path, run.path / "report.html", choices) for run in runs}
    title = f"{len(runs)} runs of {runs[0].config.get('name', out.parent.name)}"
    models = {labels[run.path]: run_scores(run) for run in runs} | titled_baselines(runs[0])
    content = {
        "title": title, "cohort": runs[0].config["data"].get("name", "cohort"), "n": len(runs),
        "patients": runs[0].metrics["n_patients"],
        "rows": [_row(run, labels, links, out) for run in runs],
        "forest": chart.forest("balanced_accuracy", models, 230, len(runs)),
        "sweep": sweep_chart(runs),
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
