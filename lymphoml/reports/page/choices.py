"""What a user may ask of a page."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Choices:
    ids: bool = False  # name patients as the cohort does
    thumbnails: bool = True
    audit: Path | None = None  # audit.json of the run's cohort
    root: str | None = None  # where the cohort lies now, if not where the run tells
    prevalence: float | None = None  # of tumoral patients, in the decision curve; the cohort's
