"""Render the report of a run: one HTML page that makes no request and needs no script."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lymphoml.core.files import write_text
from lymphoml.reports import format as formatting
from lymphoml.reports import repeatability, validation
from lymphoml.reports.page import Choices, background, chart, curves, scores
from lymphoml.reports.page.cells import Cells
from lymphoml.reports.page.evidence import evidence
from lymphoml.reports.page.folds import folds
from lymphoml.reports.page.patients import patient_names, patients
from lymphoml.runs.finished_run import read_run

HERE = Path(__file__).parent
LIMIT = 7_500_000  # bytes of a page; mail and browsers take 8 MB
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
    """The page; `head` and the keys of `contents` name a template in `sections`."""
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

    def part(name: str, content: dict[str, Any]) -> Markup:
        return Markup(environment.get_template(f"sections/{name}.html.j2").render(content))

    sections = [
        (name, SECTIONS[name][0], part(name, each)) for name, each in (contents or {}).items()
    ]
    page = environment.get_template("page.html.j2")
    return page.render(title=title, head=part(head, values), sections=sections)
