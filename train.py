"""Cross-validate one configuration: `python train.py key=value ...`, `-m` for a sweep of them."""

import hydra
from omegaconf import DictConfig

from lymphoml.config import entry, job


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> float:
    with job(config) as (plain, folder):
        from lymphoml.training import cross_validate  # four seconds that --help must not cost

        return cross_validate(plain, folder)


if __name__ == "__main__":
    entry(main)
