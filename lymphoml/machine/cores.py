"""How many cores there are, and how jobs share them. No torch: a launcher asks before any job."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lymphoml.machine.allowance import cpus

DEVICES = Path("/dev")


def available_cores() -> int:
    """Of the machine those that this process may use, by its affinity and its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, int(min(cores or 1, cpus() or math.inf)))


def share(jobs: int) -> int:
    """Cores of each of so many jobs side by side; no more than OMP_NUM_THREADS allows."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    most = int(allowed) if allowed.isdigit() and int(allowed) else available_cores()
    return max(1, min(most, available_cores() // jobs))


def side_by_side(params: Mapping[str, Any] | None) -> int:
    """How many jobs of a sweep over `params` (key: "a,b,c") to run at once: at most one a core.

    One by one with a GPU. Two jobs of one thread did 1.1 times the work of one job of two threads
    (ResNet18, 112 and 224 pixels, bf16, two cores of an AMD EPYC): threads wait for each other,
    jobs do not.
    """
    if any(DEVICES.glob("nvidia[0-9]*")):
        return 1
    jobs = math.prod(len(str(values).split(",")) for values in (params or {}).values())
    return min(jobs, available_cores()) if params else available_cores()
