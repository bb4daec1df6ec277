"""`python -m lymphoml report`: the HTML report of a run, or of several."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lymphoml.cli.options import option
from lymphoml.core.errors import InputError


@dataclass
class Report:
    """One self-contained HTML page of a finished run, or of several side by side."""

    run: str = option("", "run folder")
    runs: Any = option(None, "instead of run: folder of a sweep, or [A,B,...]")
    out: str | None = option(None, "file; default: report.html in the folder of the run or sweep")
    audit: str | None = option(None, "audit.json of the run's cohort, to be summarised")
    prevalence: float | None = option(
        None, "prevalence of tumoral patients in the decision curve; default: the cohort's"
    )
    reference: str | None = option(None, "of several runs, as in compare")
    tried: int | None = option(None, "of several runs, as in compare")
    data: dict[str, Any] = option({}, "data.root=DIR: the cohort, for pictures of cells")
    ids: bool = option(False, "show patients' ids instead of pseudonyms; the page is then private")
    thumbnails: bool = option(True, "show cells of each patient; false for a page to share")


def run(options: Report) -> None:
    from lymphoml.reports.page import Choices
    from lymphoml.reports.page.overview import write_overview
    from lymphoml.reports.page.page import write_report
    from lymphoml.runs.finished_run import find_runs

    if bool(options.run) == bool(options.runs):
        raise InputError("give run=RUN for one run, or runs=FOLDER or runs=[A,B] for several")
    if options.prevalence is not None and not 0 < options.prevalence < 1:
        raise InputError(f"prevalence={options.prevalence}: must be > 0 and < 1")
    if set(options.data) - {"root"}:
        raise InputError(f"data={options.data}: only data.root=DIR has an effect here")
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
    out = given or folder / "report.html"
    print(write_overview(paths, out, choices, options.reference, options.tried))
