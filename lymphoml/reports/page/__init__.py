"""The HTML report: page.py lists its sections, each a function of the run and these choices."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Choices:
    """What a user may choose of a report."""

    ids: bool = False  # show patients' ids instead of pseudonyms
    thumbnails: bool = True
    audit: Path | None = None  # audit.json of the run's cohort
    data: dict[str, Any] = field(default_factory=dict)  # where the cohort is, if not as in the run
    prevalence: float | None = None  # of tumoral patients in the decision curve; default: cohort's
