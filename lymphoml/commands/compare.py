"""`python -m lymphoml compare`: runs side by side, with what their differences are worth."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from lymphoml.commands.options import listed_runs, option
from lymphoml.errors import InputError


@dataclass
class Compare:
    """Runs on the same patients and folds against one of them: differences, and the best of all."""

    runs: str = option(MISSING, "[A,B,...], run folders, or one folder that holds a sweep's runs")
    reference: str | None = option(
        None,
        "of them; by default the first, in a sweep the report's recipe, else the first by name",
    )
    out: str | None = option(
        None, "folder of comparison.json and comparison.csv; the sweep's by default, or runs"
    )
    resamples: int = option(2000, "bootstrap resamples of the patients")
    seed: int = option(0, "of resamples and permutations")


def run(options: Compare) -> None:
    from lymphoml.report.comparison import compare_runs, papers_run
    from lymphoml.report.comparison_file import write_comparison
    from lymphoml.report.comparison_tables import print_comparison
    from lymphoml.report.runs import find_runs

    if options.resamples < 100:
        raise InputError(f"resamples={options.resamples}: give 100 or more, 2000 to report")
    listed = options.runs.startswith("[")
    paths = listed_runs(options.runs) if listed else find_runs(Path(options.runs))
    if options.reference is not None:
        reference, why = _given(options.reference, paths), "as given"
    elif listed:
        reference, why = paths[0], "the first given"
    elif (paper := papers_run(paths)) is not None:
        reference, why = paper, "the report's optimiser, rate and decay"
    else:
        reference, why = paths[0], "the first by name"
    comparison = compare_runs(paths, reference, options.resamples, options.seed)
    out = Path(options.out or ("runs" if listed else options.runs))
    written = write_comparison(comparison, out)
    print(f"reference: {comparison.reference} ({why})")
    print_comparison(comparison)
    print(", ".join(map(str, written)))


def _given(reference: str, paths: list[Path]) -> Path:
    """The run named by its folder, or by its name among the runs."""
    found = [path for path in paths if path == Path(reference) or path.name == reference]
    if len(found) != 1:
        names = ", ".join(map(str, paths))
        raise InputError(f"reference={reference}: it must be one of the runs: {names}")
    return found[0]
