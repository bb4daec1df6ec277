"""`python train.py`, or `lymphoml train` of an installed package: one job, or with -m a sweep."""

import sys

import hydra
from omegaconf import DictConfig

from lymphoml.cli.config import CONF
from lymphoml.cli.entry import run_cli
from lymphoml.cli.hydra_guard import check_command_line
from lymphoml.cli.job import clean_sweep_records, job_context, print_help


def run_job(composed: DictConfig) -> float:
    """Cross-validate one configuration; return its score, for sweepers that search."""
    with job_context(composed) as job:
        # Imported here: seconds that --help and a cluster's submit side must not cost.
        from lymphoml.reports.run_summary import print_run
        from lymphoml.runs.cross_validation import cross_validate

        score = cross_validate(*job)
        print_run(job.folder)
        return score


def train(words: list[str]) -> None:
    """Run Hydra with the words of a command line, whose options it reads itself."""
    if {"-h", "--help"} & set(words):
        return print_help()
    sys.argv[1:] = check_command_line(words)
    clean_sweep_records()  # of a sweep that was killed
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(run_job)()
    finally:
        clean_sweep_records()


def main() -> None:
    run_cli(lambda: train(sys.argv[1:]))
