"""`python -m lymphoml report`: the page of a run."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from lymphoml.commands.options import option


@dataclass
class Report:
    """One self-contained HTML page of a finished run."""

    run: str = option(MISSING, "run folder")
    out: str | None = option(None, "file; RUN/report.html by default")


def run(options: Report) -> None:
    from lymphoml.report.page import write_report

    run = Path(options.run)
    print(write_report(run, Path(options.out) if options.out else run / "report.html"))
