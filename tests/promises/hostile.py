"""What the tests of hostile input share: payloads that would run, and how a refusal looks."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lymphoml.cli.main import main
from tests.promises.table import ROOT


class Canary:
    """Pickled, it is a call that leaves `place` behind when it is unpickled."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.place),)


def refused(capsys: pytest.CaptureFixture, *words: str) -> str:
    """The one line that `python -m lymphoml WORDS` says while it exits with 2."""
    with pytest.raises(SystemExit) as left:
        main(list(words))
    said = capsys.readouterr().err
    assert left.value.code == 2, said
    return one_line(said)


def one_line(said: str) -> str:
    lines = said.splitlines()
    assert len(lines) == 1, said
    assert lines[0].startswith("error: ")
    assert lines[0].isprintable()
    assert len(lines[0]) < 1500
    return lines[0]


def python(*words: Any, cwd: Path, limit: float = 120) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=environment, capture_output=True,
        text=True, timeout=limit,
    )  # fmt: skip


def cost(code: str, cwd: Path, limit: float = 60) -> tuple[float, float]:
    """MB of memory at its peak, and seconds, that the function `attack` of `code` adds.

    VmHWM, since a process inherits `ru_maxrss` from the one that started it.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process's memory is read from /proc")
    told = python(
        "-c",
        "import re, time\nfrom pathlib import Path\n"
        f"{code}\n"
        "status = Path('/proc/self/status')\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', status.read_text())[1]) / 1024\n"
        "before, started = peak(), time.process_time()\nattack()\n"
        "print(peak() - before, time.process_time() - started)",
        cwd=cwd, limit=limit,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    memory, seconds = map(float, told.stdout.split()[-2:])
    return memory, seconds
