"""How much memory is free, and how the process keeps what it has."""

import ctypes
from pathlib import Path

import torch

from lymphoml.cores import available_cores, threads_of_job

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed() -> bool:
    """Have glibc keep what is freed for the next step; False where there is no glibc.

    By default it returns large blocks to the system, which clears every page anew in each step: 7 %
    of ResNet18's at 224 pixels. 32 MiB is the largest threshold that glibc takes. Keeping larger
    blocks too (M_MMAP_MAX 0) gives 15 %, but bags of ever other sizes then tear the heap to
    pieces: 17 GB after seven epochs on the real cohort.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_THRESHOLD, 32 * 2**20), (M_TRIM_THRESHOLD, 2**30))
    return all(mallopt(key, value) == 1 for key, value in settings)


def free_bytes(cuda: bool) -> int | None:
    """What a job may still take: of the GPU, else of the machine and its control group.

    A job that was given a share of the cores has the same share of that memory. None where the
    system does not say.
    """
    if cuda:
        return torch.cuda.mem_get_info()[0]
    limits = [free for free in (_available(), _left_in_group()) if free is not None]
    return min(limits) * threads_of_job() // available_cores() if limits else None


def _available() -> int | None:
    path = Path("/proc/meminfo")
    if not path.exists():
        return None
    fields = dict(line.split(":", 1) for line in path.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def _left_in_group() -> int | None:
    """Of a container's or a cluster job's allowance (cgroup version 2)."""
    groups = Path("/proc/self/cgroup")
    if not groups.exists():
        return None
    name = groups.read_text().rpartition("::/")[2].strip()
    folder = Path("/sys/fs/cgroup") / name
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else max(int(limit) - used, 0)
