"""Cross-validate one configuration: `python train.py key=value ...`, `-m` for a sweep of them."""

import sys

from lymphoml.core.signals import install_signal_handlers

if __name__ == "__main__":  # before all that takes time
    install_signal_handlers("the same command goes on from the last finished epoch")

import hydra
from omegaconf import DictConfig

from lymphoml.cli.entry import clean_sweep_records, entry, job
from lymphoml.cli.hydra_guard import check_command_line


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> float:
    with job(config) as (plain, folder, words, jobs, sweep):
        # Imported here: seconds that --help and a cluster's submit side must not cost.
        from lymphoml.reports.run_summary import print_run
        from lymphoml.runs.cross_validation import cross_validate

        score = cross_validate(plain, folder, words, jobs, sweep)
        print_run(folder)
        return score


def checked() -> None:
    check_command_line(sys.argv[1:])
    clean_sweep_records()  # of one that was killed
    try:
        main()
    finally:
        clean_sweep_records()


if __name__ == "__main__":
    entry(checked)
