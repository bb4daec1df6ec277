"""`python -m lymphoml ablation`: the table and figure of a sweep."""

from dataclasses import dataclass
from pathlib import Path

from lymphoml.cli.options import option


@dataclass
class Ablation:
    """Table, figure and best configuration of a sweep's finished runs, beside their baselines."""

    runs: str = option("runs/ablation", "the sweep's folder")


def run(options: Ablation) -> None:
    from lymphoml.reports.ablation.summary import summarise_ablation

    summarise_ablation(Path(options.runs))
