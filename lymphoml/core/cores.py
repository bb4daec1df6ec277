"""How many cores there are, and how jobs share them. No torch: a launcher asks before any job."""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# What a container or a scheduler's job may use: control groups, version 2.
#
# None where nothing limits it, or where the system has no such groups. A limit may stand on any of
# the groups above the process's own; the tightest counts.
#

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def cpus() -> float | None:
    """How many CPUs' time, by quota."""
    limits = []
    for group in _groups():
        quota, _, period = _read(group / "cpu.max").partition(" ")
        if quota.isdigit():
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


def memory_left() -> int | None:
    """Bytes; what files were read into and can be dropped counts as left."""
    left = []
    for group in _groups():
        limit, used = _read(group / "memory.max"), _read(group / "memory.current")
        if limit.isdigit() and used.isdigit():
            fields = dict(line.split() for line in _read(group / "memory.stat").splitlines())
            left.append(int(limit) - int(used) + int(fields.get("inactive_file", 0)))
    return max(min(left), 0) if left else None


def _groups() -> Iterator[Path]:
    """The process's own group, then those above it."""
    name = _read(OWN).rpartition("0::/")[2]
    group = ROOT / name if name else ROOT
    yield group
    while group != ROOT and ROOT in group.parents:
        group = group.parent
        yield group


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


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
