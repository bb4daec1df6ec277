"""What the tests of hostile input share: payloads that would run, and how a refusal looks."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lymphoml.cli.main import main
from tests.promises.processes import python


class Canary:
    """Pickled, it is a call that creates the folder `place` when it is unpickled."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.place),)


def few(cases: Mapping[str, Any], *quick: str) -> list[Any]:
    """Return the names of cases as parameters: all but the `quick` ones are slow."""
    assert set(quick) <= set(cases), set(quick) - set(cases)
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in cases]


def refused(capsys: pytest.CaptureFixture, *words: str) -> str:
    """Return the one line with which `python -m lymphoml WORDS` exits with code 2."""
    with pytest.raises(SystemExit) as left:
        main(list(words))
    printed = capsys.readouterr().err
    assert left.value.code == 2, printed
    return one_line(printed)


def one_line(printed: str) -> str:
    lines = printed.splitlines()
    assert len(lines) == 1, printed
    assert lines[0].startswith("error: ")
    assert lines[0].isprintable()
    assert len(lines[0]) < 1500
    return lines[0]


def cost(code: str, cwd: Path, limit: float = 60) -> tuple[float, float]:
    """Return MB of memory at its peak, and CPU seconds, that the function `attack` of `code` adds.

    VmHWM, as a process inherits `ru_maxrss` from the one that started it.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process's memory is read from /proc")
    done = python(
        "-c",
        "import re, time\nfrom pathlib import Path\n"
        f"{code}\n"
        "status = Path('/proc/self/status')\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', status.read_text())[1]) / 1024\n"
        "before, started = peak(), time.process_time()\nattack()\n"
        "print(peak() - before, time.process_time() - started)",
        cwd=cwd, limit=limit,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    memory, seconds = map(float, done.stdout.split()[-2:])
    return memory, seconds
