"""`python -m lymphoml compare`: runs side by side, and the table and figure of a sweep."""

from dataclasses import dataclass
from pathlib import Path

from lymphoml.cli.options import REQUIRED, option, parse_run_list
from lymphoml.core.errors import InputError


@dataclass
class Compare:
    """Compare runs on the same patients and folds; of a sweep also the paper's table and figure."""

    runs: str = option(REQUIRED, "[A,B,...] run folders, or the folder of a sweep")
    reference: str | None = option(
        None,
        "run folder or baseline (clinical, random_forest, morphology, random_features, ...) to "
        "compare with; default: first run given, in a sweep the paper's configuration",
    )
    tried: int | None = option(
        None, "number of configurations tried, if more than these; default: the runs compared"
    )
    out: str | None = option(
        None, "folder for comparison.json and .csv, ablation.csv and .png; default: sweep, or runs"
    )
    resamples: int = option(2000, "bootstrap resamples of patients")
    seed: int = option(0, "of resamples and permutations")


def run(options: Compare) -> None:
    from lymphoml.reports.comparison.compare import choose_reference, compare_runs
    from lymphoml.reports.comparison.output import print_comparison, write_comparison
    from lymphoml.reports.comparison.sweep import print_sweep, write_sweep
    from lymphoml.reports.format import wide_console
    from lymphoml.runs.finished_run import find_runs

    if options.resamples < 100:
        raise InputError(f"resamples={options.resamples}: must be >= 100; use 2000 for publication")
    is_list = options.runs.startswith("[")
    paths = parse_run_list(options.runs) if is_list else find_runs(Path(options.runs))
    reference, why = choose_reference(options.reference, paths, is_list)
    comparison = compare_runs(paths, reference, options.resamples, options.seed, options.tried)
    out = Path(options.out or ("runs" if is_list else options.runs))
    written = write_comparison(comparison, out)
    console = wide_console()
    print(f"reference: {comparison.reference} ({why})")
    if not is_list:
        written += write_sweep(comparison, out)
        print_sweep(comparison, console)
    print_comparison(comparison, console)
    print(", ".join(map(str, written)))
