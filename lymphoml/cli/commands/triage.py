"""`python -m lymphoml triage`: who can be ruled out without flow cytometry."""

from dataclasses import dataclass
from pathlib import Path

from lymphoml.cli.options import REQUIRED, option


@dataclass
class Triage:
    """Set a run's rule-out threshold, and say what it aims at; predict.py then applies it."""

    run: str = option(REQUIRED, "run folder")
    sensitivity: float = option(0.95, "share of tumoral patients to be tested, above 0, below 1")
    guarantee: str = option("average", "average: over cohorts; confidence: in 95 % of cohorts")
    prevalence: float | None = option(None, "of tumoral patients where it is used, 0 to 1")


def run(options: Triage) -> None:
    from lymphoml.reports.triage import set_rule

    set_rule(Path(options.run), options.sensitivity, options.guarantee, options.prevalence)
