"""The HTML report: page.py lists its sections, each a function of the run and these choices."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Choices:
    """What a user may choose of a report."""

    ids: bool = False  # show patients' ids instead of pseudonyms
    thumbnails: bool = True
    audit: Path | None = None  # audit.json of the run's cohort
    root: str | None = None  # data.root of the cohort, if not the run's
    prevalence: float | None = None  # of tumoral patients in the decision curve; default: cohort's
