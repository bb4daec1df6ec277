"""Cross-validate one configuration: `python train.py key=value ...`, `-m` for a sweep of them."""

import sys

from lymphoml.core.signals import install_signal_handlers

if __name__ == "__main__":  # before anything slow
    install_signal_handlers("rerun the same command to resume from the last finished epoch")

import hydra
from omegaconf import DictConfig

from lymphoml.cli.entry import run_cli
from lymphoml.cli.hydra_guard import check_command_line
from lymphoml.cli.job import clean_sweep_records, job_context, print_help


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(composed: DictConfig) -> float:
    with job_context(composed) as job:
        # Imported here: seconds that --help and a cluster's submit side must not cost.
        from lymphoml.reports.run_summary import print_run
        from lymphoml.runs.cross_validation import cross_validate

        score = cross_validate(*job)
        print_run(job.folder)
        return score


def check_and_run() -> None:
    if {"-h", "--help"} & set(sys.argv[1:]):
        return print_help()
    check_command_line(sys.argv[1:])
    clean_sweep_records()  # of a sweep that was killed
    try:
        main()
    finally:
        clean_sweep_records()


if __name__ == "__main__":
    run_cli(check_and_run)
