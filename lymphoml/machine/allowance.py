"""What a container or a scheduler's job may use: control groups, version 2.

None where nothing limits it, or where the system has no such groups. A limit may stand on any of
the groups above the process's own; the tightest counts.
"""

from collections.abc import Iterator
from pathlib import Path

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
