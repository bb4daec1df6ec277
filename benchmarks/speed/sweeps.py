"""What a training step costs as bag, patients, workers or resolution change, one at a time."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from benchmarks.speed.comparison import Report, Run, in_folder
from benchmarks.speed.jobs import VARIANTS, Answer, Condition, Job
from benchmarks.speed.measuring import Measurement, measure
from benchmarks.speed.profiles import Profile
from lymphoml.training import hardware

SHARE = 0.8  # of the memory that is free, at most


def sweep(profile: Profile, job: Job, folder: Path, bound_mib: float, report: Report) -> list[Run]:
    """Each condition once, though several sweeps contain it; variants interleaved."""
    unique = dict.fromkeys(one for some in profile.sweeps().values() for one in some)
    runs: list[Run] = []
    for condition in unique:
        asked = in_folder(
            replace(job, condition=condition, steps=profile.steps_of(condition), passes=0), folder
        )
        for number in range(profile.sweep_rounds):
            for variant in VARIANTS:
                report(f"{_words(condition)}, {VARIANTS[variant]}")
                measured = _unless_too_large(replace(asked, variant=variant), runs, bound_mib)
                runs.append(Run(number, variant, condition, measured))
        shutil.rmtree(asked.cache)
    return runs


def _unless_too_large(job: Job, runs: list[Run], bound_mib: float) -> Measurement:
    """lymphoml bounds its memory itself, so that of smaller bags foretells nothing; all are
    stopped when they pass the bound all the same."""
    if job.variant != "lymphoml":
        expected = expected_mib(job.variant, job.condition, runs)
        if expected is not None and expected > bound_mib:
            return Measurement(
                Answer(), obstacle=f"does not fit: {expected:.0f} MiB expected from smaller bags"
            )
    return measure(job, bound_mib)


def expected_mib(variant: str, condition: Condition, runs: Iterable[Run]) -> float | None:
    """Peak memory on the line through the two largest smaller bags; None where there are none."""
    known = {
        run.condition.bag: run.measured.peak_mib
        for run in runs
        if run.variant == variant
        and run.measured.peak_mib is not None
        and replace(run.condition, bag=condition.bag) == condition
        and run.condition.bag < condition.bag
    }
    if len(known) < 2:
        return None
    (small, low), (large, high) = sorted(known.items())[-2:]
    return high + (high - low) / (large - small) * (condition.bag - large)


def bound(memory_gib: float) -> float:
    """MiB that a process may hold: as asked, or what is free without pressing on the others."""
    free = hardware.free_bytes(cuda=False, jobs=1)
    if free is None:
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(memory_gib * 1024, SHARE * free / 2**20)


def _words(condition: Condition) -> str:
    return (
        f"{condition.patients} patients of {condition.bag} images, {condition.size} px, "
        f"{condition.workers} workers"
    )
