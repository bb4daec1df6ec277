"""`results.json`: settings, every raw time, what follows from them; nothing of whose machine."""

import os
import platform
from statistics import median
from typing import Any

from benchmarks.speed import summary
from benchmarks.speed.comparison import Run
from benchmarks.speed.estimate import PAPER
from benchmarks.speed.jobs import VARIANTS, Condition, Job
from benchmarks.speed.profiles import Profile
from lymphoml.core.cores import available_cores
from lymphoml.runs import provenance
from lymphoml.training import hardware


def collect(
    name: str, profile: Profile, job: Job, bound_mib: float, compared: list[Run], swept: list[Run]
) -> dict[str, Any]:
    """The content of the file; `name` is the profile's."""
    described = provenance.describe("", ["experiment=paper", *job.words], "", "", 1)
    return {
        "profile": name,
        "machine": machine(job.accelerator),
        "versions": {"python": platform.python_version(), **described["versions"]},
        "git_commit": described["git_commit"],
        "settings": {
            "threads": job.threads,
            "precision": {variant: _precision(variant, job) for variant in VARIANTS},
            "rounds": profile.rounds,
            "sweep_base": profile.base.describe(),
            "sweep_few": profile.few,
            "sweep_rounds": profile.sweep_rounds,
            "timed_epochs_a_round": job.epochs,
            "timed_inference_passes_a_round": job.passes,
            "memory_bound_mib": round(bound_mib),
            "others_cores": _others([*compared, *swept]),
            "command": described["command"],
            "spare_cores": (os.cpu_count() or 1) - job.threads,
        },
        "variants": VARIANTS,
        "comparison": {
            "condition": profile.condition.describe(),
            "runs": [_run(run) for run in compared],
            "medians": {variant: summary.medians(compared, variant) for variant in VARIANTS},
            "ratios": summary.ratios(compared),
        },
        "paper": {
            **PAPER._asdict(),
            "training_images": PAPER.training_images,
            "validation_images": PAPER.validation_images,
            "size": profile.condition.size,
            "hours": {variant: summary.paper_hours(compared, variant) for variant in VARIANTS},
        },
        "sweeps": {
            sweep: [_point(condition, swept) for condition in conditions]
            for sweep, conditions in profile.sweeps().items()
        },
        "sweep_runs": [_run(run) for run in swept],
    }


def machine(accelerator: str) -> dict[str, Any]:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "hardware": hardware.device_name(accelerator),
        "cores": available_cores(),
        "memory_gib": round(memory),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _precision(variant: str, job: Job) -> str:
    return "32-true" if variant == "reference" else job.precision


def _run(run: Run) -> dict[str, Any]:
    measured = run.measured
    return {
        "round": run.round,
        "variant": run.variant,
        **run.condition.describe(),
        "training_images_per_second": _rounded(measured.answer.training),
        "inference_images_per_second": _rounded(measured.answer.inference),
        "step_seconds": _rounded(measured.answer.steps),
        "first_step_seconds": measured.first_step_seconds,
        "process_seconds": measured.seconds,
        "others_cores": measured.others,
        "peak_mib": measured.peak_mib,
        "cuda_peak_mib": measured.answer.cuda_peak_mib,
        "obstacle": measured.obstacle,
    }


def _others(runs: list[Run]) -> dict[str, float] | None:
    """Cores that were busy with something else: above the cores to spare, times are no good."""
    known = [run.measured.others for run in runs if run.measured.others is not None]
    if not known:
        return None
    return {"median": round(median(known), 2), "highest": round(max(known), 2)}


def _point(condition: Condition, runs: list[Run]) -> dict[str, Any]:
    """One place on each variant's curve: the last round's memory and start, all rounds' steps."""
    point: dict[str, Any] = condition.describe()
    for variant in VARIANTS:
        mine = [run for run in runs if run.variant == variant and run.condition == condition]
        last = mine[-1].measured
        point[variant] = {
            "images_per_second": summary.of_steps(mine),
            "peak_mib": last.peak_mib,
            "first_step_seconds": last.first_step_seconds,
            "obstacle": last.obstacle,
        }
    return point


def _rounded(values: list[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
