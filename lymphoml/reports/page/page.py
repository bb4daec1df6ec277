"""One self-contained HTML page of a finished run: no request, and whole without a script."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lymphoml.core.files import write_text
from lymphoml.reports.page import wording
from lymphoml.reports.page.chart import Chart
from lymphoml.reports.page.chart_plotly import figure, plotly_bundle
from lymphoml.reports.page.chart_svg import svg
from lymphoml.reports.page.choices import Choices
from lymphoml.reports.page.contents import SECTIONS
from lymphoml.reports.page.sections import headline, patients
from lymphoml.runs.finished_run import Run, read_run

HERE = Path(__file__).parent
LIMIT = 7_500_000  # bytes of a page; mail and browsers bear 8 MB


def write_report(run: Path, out: Path, choices: Choices | None = None) -> Path:
    """Write the page of the run in folder `run` to `out`, and return `out`.

    Before it, `pseudonyms.csv` in the run's folder, which stays private: wherever the page goes,
    it tells whom it speaks of. Raises InputError where the run is unfinished, or what `choices`
    names is not there.
    """
    choices, finished = choices or Choices(), read_run(run)
    if choices.root is not None:
        data = finished.config["data"] | {"root": choices.root}
        finished = replace(finished, config=finished.config | {"data": data})
    head = headline.content(finished, choices)
    bare = replace(choices, thumbnails=False)
    sections = [
        (section.__name__.rpartition(".")[2], section.TITLE, section.content(finished, bare))
        for section in SECTIONS
    ]
    title = f"{head['name']} on {head['cohort']}"
    page = render(title, "headline", head, sections)
    if choices.thumbnails:  # the pictures fill what the rest leaves
        told = patients.content(finished, choices, LIMIT - len(page.encode()))
        sections[SECTIONS.index(patients)] = ("patients", patients.TITLE, told)
        page = render(title, "headline", head, sections)
    if not choices.ids:
        _write_names(finished)
    write_text(out, page, private=choices.ids)
    return out


def _write_names(run: Run) -> None:
    path = run.path / "pseudonyms.csv"
    rows = [f"{name},{patient}\n" for patient, name in patients.patient_names(run, False).items()]
    write_text(path, "".join(["pseudonym,patient\n", *rows]))


def render(
    title: str, head: str, values: dict[str, Any], sections: list[tuple[str, str, dict[str, Any]]]
) -> str:
    """The page; `head` and the first of each section name a template in `sections`."""
    environment = _environment()

    def part(name: str, content: dict[str, Any]) -> Markup:
        return Markup(environment.get_template(f"sections/{name}.html.j2").render(content))

    return environment.get_template("page.html.j2").render(
        title=title,
        head=part(head, values),
        sections=[(name, named, part(name, content)) for name, named, content in sections],
        plotly=Markup(plotly_bundle()),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.filters |= {
        "score": wording.score,
        "interval": wording.interval,
        "signed": wording.signed,
        "counted": wording.counted,
        "svg": _svg,
        "plotly": figure,
    }
    return environment


def _svg(chart: Chart) -> Markup:
    return Markup(svg(chart))
