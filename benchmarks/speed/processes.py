"""A process of its own for each measurement: its time, its peak memory, and a bound on it."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
POLL = 0.05  # seconds
PEAK_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of ru_maxrss


class Finished(NamedTuple):
    code: int
    started_at: float  # of time.monotonic()
    seconds: float
    peak_mib: float  # resident: mapped pages of decoded images count, loader processes do not
    others: float | None  # cores that were busy with something else
    stopped: bool  # for it grew beyond its bound
    told: str  # the end of what it printed


def python(words: Sequence[str], bound_mib: float, folder: Path) -> Finished:
    """Run `python WORDS` in `folder` to its end, or until more than `bound_mib` is resident."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    with tempfile.TemporaryFile() as output:
        started, busy = time.monotonic(), _busy_seconds()
        process = subprocess.Popen(
            [sys.executable, *words], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output,
        )  # fmt: skip
        stopped, peak = False, 0.0
        try:
            # Popen.wait would throw the child's own resource usage away.
            while not (found := os.wait4(process.pid, os.WNOHANG))[0]:
                peak = max(peak, _peak_mib(process.pid))
                if not stopped and peak > bound_mib:
                    stopped = True
                    process.kill()
                time.sleep(POLL)
            process.returncode = os.waitstatus_to_exitcode(found[1])
            usage = found[2]
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
        seconds, busier = time.monotonic() - started, _busy_seconds()
        output.seek(0)
        told = output.read().decode(errors="replace")[-4000:]
    others = None
    if busy is not None and busier is not None:
        others = max(0.0, busier - busy - usage.ru_utime - usage.ru_stime) / seconds
    # Linux lets ru_maxrss begin with what the parent held, so it only stands in without /proc.
    peak = peak or usage.ru_maxrss * PEAK_UNIT / 2**20
    return Finished(process.returncode, started, seconds, peak, others, stopped, told)


def _busy_seconds() -> float | None:
    """Of all the machine's cores since it started; what a hypervisor took away counts."""
    try:
        user, nice, system, _, _, *interrupts = Path("/proc/stat").read_text().split()[1:9]
    except (OSError, ValueError):
        return None
    return sum(map(int, (user, nice, system, *interrupts))) / os.sysconf("SC_CLK_TCK")


def _peak_mib(pid: int) -> float:
    """The most that was resident so far; 0 where the system has no /proc, and no bound is kept."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines.get("VmHWM", "0 kB").split()[0]) / 1024
