"""`python -m lymphoml compare`: runs side by side, with what their differences are worth."""

from dataclasses import dataclass
from pathlib import Path

from lymphoml.cli.options import REQUIRED, option, parse_run_list
from lymphoml.core.errors import InputError


@dataclass
class Compare:
    """Runs on the same patients and folds against one of them or a baseline; the best of all."""

    runs: str = option(REQUIRED, "[A,B,...], run folders, or one folder that holds a sweep's runs")
    reference: str | None = option(
        None,
        "of them; by default the first, in a sweep the report's recipe, else the first by name; or "
        "a baseline of all: clinical, random_forest, morphology, random_features, ...",
    )
    tried: int | None = option(
        None, "configurations tried in all, these included; more where some are elsewhere or gone"
    )
    out: str | None = option(
        None, "folder of comparison.json and comparison.csv; the sweep's by default, or runs"
    )
    resamples: int = option(2000, "bootstrap resamples of the patients")
    seed: int = option(0, "of resamples and permutations")


def run(options: Compare) -> None:
    from lymphoml.reports.comparison.compare import compare_runs
    from lymphoml.reports.comparison.file import write_comparison
    from lymphoml.reports.comparison.reference import papers_run
    from lymphoml.reports.comparison.terminal import print_comparison, reference_words
    from lymphoml.runs.finished_run import find_runs

    if options.resamples < 100:
        raise InputError(f"resamples={options.resamples}: give 100 or more, 2000 to report")
    listed = options.runs.startswith("[")
    paths = parse_run_list(options.runs) if listed else find_runs(Path(options.runs))
    reference: Path | str
    if options.reference is not None:
        reference = _given(options.reference, paths)
        why = "as given" if isinstance(reference, Path) else "a baseline in the same folds"
    elif listed:
        reference, why = paths[0], "the first given"
    elif (paper := papers_run(paths)) is not None:
        reference, why = paper, "the report's optimiser, rate and decay"
    else:
        reference, why = paths[0], "the first by name"
    comparison = compare_runs(paths, reference, options.resamples, options.seed, options.tried)
    out = Path(options.out or ("runs" if listed else options.runs))
    written = write_comparison(comparison, out)
    print(f"reference: {reference_words(comparison)} ({why})")
    print_comparison(comparison)
    print(", ".join(map(str, written)))


def _given(reference: str, paths: list[Path]) -> Path | str:
    """The run of that folder, or of that name among the runs; of none, the baseline's column."""
    from lymphoml.reports.comparison.reference import BASELINES

    every = dict.fromkeys(paths)
    found = [path for path in every if path == Path(reference) or path.name == reference]
    if len(found) > 1:
        names = " and ".join(map(str, found))
        raise InputError(f"reference={reference}: {names} are called so; give the folder")
    return found[0] if found else BASELINES.get(reference, reference)
