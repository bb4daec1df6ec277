"""Render the report of a run: one HTML page that makes no request and needs no script."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lymphoml.core.files import write_text
from lymphoml.reports import format as formatting
from lymphoml.reports.page import chart_svg
from lymphoml.reports.page.sections import (
    Choices,
    audit,
    calibration,
    comparison,
    configuration,
    discrimination,
    folds,
    multiplicity,
    patients,
    subgroups,
    summary,
    triage,
    tripod,
)
from lymphoml.runs.finished_run import Run, read_run

HERE = Path(__file__).parent
LIMIT = 7_500_000  # bytes of a page; mail and browsers take 8 MB
# Each is a module and the template of its name.
SECTIONS = (comparison, folds, discrimination, calibration, triage, subgroups, patients,
            multiplicity, audit, tripod, configuration)  # fmt: skip


def write_report(run: Path, out: Path, choices: Choices | None = None) -> Path:
    """Write the report of the run in folder `run` to `out`, and return `out`.

    Also writes the private file `pseudonyms.csv` into the run's folder. Raises InputError where the
    run is unfinished, or a file in `choices` is missing or invalid.
    """
    choices, finished = choices or Choices(), read_run(run)
    if choices.root is not None:
        data = finished.config["data"] | {"root": choices.root}
        finished = replace(finished, config=finished.config | {"data": data})
    head = summary.content(finished, choices)
    without_pictures = replace(choices, thumbnails=False)
    sections = [
        (
            section.__name__.rpartition(".")[2],
            section.TITLE,
            section.content(finished, without_pictures),
        )
        for section in SECTIONS
    ]
    title = f"{head['name']} on {head['cohort']}"
    page = render(title, "summary", head, sections)
    if choices.thumbnails:  # pictures fill the space that the rest leaves
        content = patients.content(finished, choices, LIMIT - len(page.encode()))
        sections[SECTIONS.index(patients)] = ("patients", patients.TITLE, content)
        page = render(title, "summary", head, sections)
    if not choices.ids:
        _write_pseudonyms(finished)
    write_text(out, page, private=choices.ids)
    return out


def render(
    title: str,
    head: str,
    values: dict[str, Any],
    sections: list[tuple[str, str, dict[str, Any]]] | None = None,
) -> str:
    """The page; `head` and the first item of each section name a template in `sections`."""
    environment = _environment()

    def part(name: str, content: dict[str, Any]) -> Markup:
        return Markup(environment.get_template(f"sections/{name}.html.j2").render(content))

    return environment.get_template("page.html.j2").render(
        title=title,
        head=part(head, values),
        sections=[
            (name, heading, part(name, content)) for name, heading, content in sections or []
        ],
    )


def _write_pseudonyms(run: Run) -> None:
    names = patients.patient_names(run, ids=False)
    rows = [f"{name},{patient}\n" for patient, name in names.items()]
    write_text(run.path / "pseudonyms.csv", "".join(["pseudonym,patient\n", *rows]))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": formatting.format_score,
        "interval": formatting.format_interval,
        "estimate": formatting.format_estimate,
        "p": formatting.format_p,
        "counted": formatting.format_count,
        "svg": lambda chart: Markup(chart_svg.svg(chart)),
        "legend_key": lambda series: Markup(chart_svg.legend_key(series)),
    }
    return environment
