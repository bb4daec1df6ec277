"""The three variants under one condition, interleaved: a b c, a b c, ..."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from benchmarks.speed.cohorts import make_cohort
from benchmarks.speed.jobs import VARIANTS, Condition, Job
from benchmarks.speed.measuring import Measurement, measure


class Run(NamedTuple):
    round: int  # in the first, the variants that decode once do so
    variant: str
    condition: Condition
    measured: Measurement


Report = Callable[[str], None]  # what is being measured, in words


def compare(
    job: Job,
    folder: Path,
    rounds: int,
    bound_mib: float,
    report: Report,
    variants: Iterable[str] = VARIANTS,
    first: int = 0,
) -> list[Run]:
    """Measure `job`, whatever its variant, once a round for each of `variants`.

    Cohort and decoded images lie in `folder`; rounds are counted from `first`.
    """
    job = in_folder(job, folder)
    runs = []
    for number in range(first, first + rounds):
        for variant in variants:
            report(f"round {number + 1}, {VARIANTS[variant]}")
            measured = measure(replace(job, variant=variant), bound_mib)
            runs.append(Run(number, variant, job.condition, measured))
    return runs


def in_folder(job: Job, folder: Path) -> Job:
    """The job with its cohort drawn, and a place for decoded images that it shares with none."""
    root = make_cohort(folder, job.condition)
    cache = folder / f"{root.name}-{job.condition.workers}-cache"
    cache.mkdir(exist_ok=True)
    return replace(job, cohort=str(root), cache=str(cache))
