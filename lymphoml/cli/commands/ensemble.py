"""`python -m lymphoml ensemble`: the mean of several runs, as a run."""

from dataclasses import dataclass
from pathlib import Path

from lymphoml.cli.options import REQUIRED, option, parse_run_list


@dataclass
class Ensemble:
    """Average the out-of-fold logits of finished runs, such as seeds, into a run of their own."""

    runs: str = option(REQUIRED, "[A,B,...], run folders, or one folder that holds a sweep's runs")
    out: str = option(REQUIRED, "the new run folder, runs/NAME/SLUG")


def run(options: Ensemble) -> None:
    from lymphoml.reports.ensemble import write_ensemble
    from lymphoml.reports.run_summary import print_run
    from lymphoml.runs.ensemble import member_names
    from lymphoml.runs.finished_run import find_runs

    out = Path(options.out)
    listed = options.runs.startswith("[")
    paths = parse_run_list(options.runs) if listed else find_runs(Path(options.runs), but=out)
    if not listed:  # among a sweep's runs lie ensembles of some of them
        paths = [path for path in paths if not member_names(path)]
    write_ensemble(paths, out)
    print_run(out)
