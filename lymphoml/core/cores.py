"""Count the cores and the memory of this machine, and share them between parallel jobs."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")  # version 2
DEVICES = Path("/dev")


def available_cores() -> int:
    """Return the cores that this process may use: affinity, control group, --cpus-per-task."""
    from joblib import cpu_count  # a fifth of a second

    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")  # not each cluster binds a job to its cores
    return min(cpu_count(), int(granted)) if granted.isdigit() else cpu_count()


def threads_per_job(jobs: int) -> int:
    """Return the cores of each of so many parallel jobs, at most OMP_NUM_THREADS."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    most = int(allowed) if allowed.isdigit() and int(allowed) else available_cores()
    return max(1, min(most, available_cores() // jobs))


def parallel_jobs(params: Mapping[str, Any] | None) -> int:
    """Return how many jobs of a sweep over `params` to run at once: one a core, one with a GPU."""
    if any(DEVICES.glob("nvidia[0-9]*")):
        return 1
    texts = [str(values) for values in (params or {}).values()]
    cores = available_cores()
    if not texts or any("(" in text for text in texts):  # range(0,5): as many as it may be
        return cores
    return min(cores, math.prod(len(text.split(",")) for text in texts))


def cgroup_memory() -> int | None:
    """Return the bytes that this process's control groups leave to it; None: no limit."""
    free = []
    own = CGROUPS / _read(OWN_CGROUP).rpartition("0::/")[2]
    for group in (own, *own.parents):
        if CGROUPS not in (group, *group.parents):
            break
        limit, used = _read(group / "memory.max"), _read(group / "memory.current")
        if limit.isdigit() and used.isdigit():
            fields = dict(line.split() for line in _read(group / "memory.stat").splitlines())
            free.append(int(limit) - int(used) + int(fields.get("inactive_file", 0)))
    return max(min(free), 0) if free else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
