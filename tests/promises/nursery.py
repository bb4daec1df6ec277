"""A process that has imported everything, and forks each `train.py` that a test wants to stop.

`python -m tests.promises.nursery` reads a `Trial` a line, as JSON, and answers with an `Outcome`:
a child starts in 0.1 s instead of 5. It is what `python train.py` is, but for the events that it
counts (`tests/promises/events.py`).
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.promises.processes import ROOT

HANGS = 120  # seconds after which a trial is killed


@dataclass
class Trial:
    """`train.py` with `words` in `cwd`; stopped by `how` at an event, after seconds, or never."""

    words: list[str]
    cwd: str
    how: str = "none"  # KILL, TERM, INT; MEMORY: no more is given
    event: tuple[str, int] | None = None  # its name, and how many of that name come before
    after: float | None = None
    script: str = "train.py"


@dataclass
class Outcome:
    code: int  # negative: the signal it died of
    seconds: float
    latency: float | None  # seconds from the signal to the end
    session: int  # of it and its children


class Nursery:
    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.promises.nursery"], cwd=ROOT, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, trial: Trial) -> Outcome:
        """Run a trial: its output is in `output.txt` of its folder, its events in `events.txt`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(asdict(trial)), file=self.process.stdin, flush=True)
        return Outcome(**json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        self.process.communicate()


@contextlib.contextmanager
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    try:
        yield made
    finally:
        made.close()


def _serve() -> None:
    import hydra  # noqa: F401
    import timm  # noqa: F401

    import lymphoml.cli.commands.predict
    import lymphoml.reports.run_summary
    import lymphoml.runs.cross_validation  # noqa: F401
    import tests.promises.events  # noqa: F401

    gc.freeze()  # else every child would copy it all when it collects
    for line in sys.stdin:
        trial = Trial(**json.loads(line))
        (Path(trial.cwd) / "events.txt").write_text("")
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            _run(trial)
        signal.signal(signal.SIGALRM, lambda *_, child=child: os.killpg(child, signal.SIGKILL))
        signal.alarm(HANGS)
        if trial.after is not None:
            time.sleep(trial.after)
            os.kill(child, signal.Signals[f"SIG{trial.how}"])  # not yet waited for: it exists
        _, status = os.waitpid(child, 0)
        signal.alarm(0)
        ended = time.monotonic()
        sent = started + trial.after if trial.after is not None else None
        if (stopped := Path(trial.cwd) / "stopped.txt").exists():
            sent = float(stopped.read_text())
            stopped.unlink()
        latency = None if sent is None else ended - sent
        outcome = Outcome(os.waitstatus_to_exitcode(status), ended - started, latency, child)
        _learn(Path(trial.cwd) / "modules.txt")
        print(json.dumps(asdict(outcome)), flush=True)


def _run(trial: Trial) -> None:
    from tests.promises import events

    os.setsid()
    os.chdir(trial.cwd)
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    events.count(trial.how, trial.event)
    sys.argv = [trial.script, *trial.words]
    runpy.run_path(str(ROOT / trial.script), run_name="__main__")
    sys.exit()


def _learn(modules: Path) -> None:
    """Import what a child imported late, once for all that follow."""
    if not modules.exists():
        return
    for name in modules.read_text().split():
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    modules.unlink()
    gc.freeze()


if __name__ == "__main__":
    _serve()
    os._exit(0)  # some libraries complain of their own leaks
