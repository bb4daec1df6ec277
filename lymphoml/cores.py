"""How many cores there are, and how jobs share them. No torch: a launcher asks before any job."""

import os
from pathlib import Path

GPU = Path("/dev/nvidia0")


def available_cores() -> int:
    """Of the machine those that this process may use; a control group or a scheduler says which."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of_job() -> int:
    """OMP_NUM_THREADS, which launchers set to a job's share of the cores, else every core."""
    share = os.environ.get("OMP_NUM_THREADS", "")
    return int(share) if share.isdigit() and int(share) else available_cores()


def side_by_side(jobs: int) -> int:
    """How many of so many jobs to run at once: one a core, at most; with a GPU one by one.

    Two jobs of one thread did 1.1 times the work of one job of two threads (ResNet18, 112 and 224
    pixels, bf16, two cores of an AMD EPYC): threads wait for each other, jobs do not.
    """
    return 1 if GPU.exists() else min(jobs, available_cores())
