"""`python -m lymphoml report`: the page of a run, or of a sweep."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from lymphoml.commands.options import option


@dataclass
class Report:
    """One self-contained HTML page of a finished run."""

    run: str = option(MISSING, "run folder")
    out: str | None = option(None, "file; RUN/report.html by default")
    audit: str | None = option(None, "audit.json of the run's cohort, to be summed up")
    ids: bool = option(False, "name patients as the cohort does, rather than by their place")
    thumbnails: bool = option(True, "show cells of each patient; false for a page to pass on")


def run(options: Report) -> None:
    from lymphoml.report.choices import Choices
    from lymphoml.report.page import write_report

    run = Path(options.run)
    audit = Path(options.audit) if options.audit else None
    choices = Choices(options.ids, options.thumbnails, audit)
    print(write_report(run, Path(options.out) if options.out else run / "report.html", choices))
