"""`python -m lymphoml report`: the page of a run, or of a sweep."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lymphoml.cli.options import option
from lymphoml.core.errors import InputError


@dataclass
class Report:
    """One self-contained HTML page of a finished run, or of several side by side."""

    run: str = option("", "run folder")
    runs: Any = option(None, "instead of run: a sweep's folder, or [RUN,RUN,...]")
    out: str | None = option(None, "file; report.html in the folder of the run or sweep by default")
    audit: str | None = option(None, "audit.json of the run's cohort, to be summed up")
    prevalence: float | None = option(
        None, "share of tumoral patients in the decision curve, above 0 and below 1; the cohort's"
    )
    data: dict[str, Any] = option({}, "where the cohort lies, for pictures of cells: data.root=DIR")
    ids: bool = option(False, "name patients as the cohort does, not by pseudonyms; a private page")
    thumbnails: bool = option(True, "show cells of each patient; false for a page to pass on")


def run(options: Report) -> None:
    from lymphoml.reports.page.choices import Choices
    from lymphoml.reports.page.overview import write_overview
    from lymphoml.reports.page.page import write_report
    from lymphoml.runs.finished_run import find_runs

    if bool(options.run) == bool(options.runs):
        raise InputError("give run=RUN for one run, or runs=FOLDER or runs=[RUN,RUN] for several")
    if options.prevalence is not None and not 0 < options.prevalence < 1:
        raise InputError(f"prevalence={options.prevalence}: give a share above 0 and below 1")
    if set(options.data) - {"root"}:
        raise InputError(f"data={options.data}: give data.root=DIR; the rest is the run's own")
    audit = Path(options.audit) if options.audit else None
    root = options.data.get("root")
    choices = Choices(options.ids, options.thumbnails, audit, root, options.prevalence)
    given = Path(options.out) if options.out else None
    if options.run:
        run = Path(options.run)
        print(write_report(run, given or run / "report.html", choices))
        return
    if isinstance(options.runs, list):
        paths = [Path(str(each)) for each in options.runs]
        folder = paths[0].parent
    else:
        folder = Path(str(options.runs))
        paths = find_runs(folder)
    print(write_overview(paths, given or folder / "report.html", choices))
