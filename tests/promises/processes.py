"""Processes that a test starts, and what is left of them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def start(*words: str, cwd: Path, **more: Any) -> subprocess.Popen:
    """Start a Python process in a session of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [sys.executable, *words], cwd=cwd, env=environment, start_new_session=True, **pipes | more
    )


def python(*words: Any, cwd: Path, limit: float = 120) -> subprocess.CompletedProcess:
    """Run a Python process to its end, in `limit` seconds at most."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=environment, capture_output=True,
        text=True, timeout=limit,
    )  # fmt: skip


def alive(session: int) -> list[str]:
    """Return the command lines of a session's processes that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, its_session = (path / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state not in "ZX":
                found.append(f"{path.name} {(path / 'cmdline').read_text()}")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def handles(process: int, number: int) -> bool:
    """Return whether a process has set a handler for this signal."""
    status = Path(f"/proc/{process}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def wait_until(holds: Callable[[], Any], seconds: float = 100) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def end(process: subprocess.Popen) -> None:
    """Kill a process and its children, whatever became of them."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
