"""A `train.py` that is stopped at the n-th of its events, forked where all is imported already.

It starts in 0.1 s instead of 5, and is what `python train.py` is but for the events that it counts.
"""

import contextlib
import functools
import gc
import io
import itertools
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lymphoml.core import files
from lymphoml.data import cache, decoding
from lymphoml.runs import baselines
from lymphoml.runs import prepare as preparation
from lymphoml.training import callbacks, lightning_module
from tests.promises.jobs import ROOT, last_of_each_key

HANGS = 120  # seconds after which a trial is killed
IMPORTED = ["pytest", "hydra", "timm", "lymphoml.cli.run_commands", "tests.promises.trials",
            "lymphoml.cli.entry", "lymphoml.reports.run_summary", "pytorch_lightning",
            "lymphoml.runs.cross_validation", "train"]  # fmt: skip


@dataclass
class Trial:
    """`train.py` with `words` in `cwd`; stopped by `how` at an event, after seconds, or never."""

    words: list[str]
    cwd: Path
    how: str = "none"  # KILL, TERM, INT; MEMORY: no more is given
    event: tuple[str, int] | None = None  # its name, and how many of that name come before
    after: float | None = None
    script: str = "train.py"

    def run(self) -> "Outcome":
        """Its output is in `output.txt` of its folder, its events in `events.txt`."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        (self.cwd / "events.txt").write_text("")
        process = context.Process(target=_train, args=(self,))
        process.start()  # returns when all is imported
        started = time.monotonic()
        assert process.pid is not None
        if self.after is not None:
            time.sleep(self.after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.Signals[f"SIG{self.how}"])
        process.join(HANGS)
        ended = time.monotonic()
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
        assert process.exitcode is not None
        stopped = self.cwd / "stopped.txt"
        latency = ended - float(stopped.read_text()) if stopped.exists() else None
        stopped.unlink(missing_ok=True)
        return Outcome(process.exitcode, ended - started, latency, process.pid)


@dataclass
class Outcome:
    code: int  # negative: the signal it died of
    seconds: float
    latency: float | None  # seconds from a stop at an event to the end
    session: int  # of it and its children


def events(folder: Path) -> Counter[str]:
    """Return how often each event came in the last trial in this folder."""
    return Counter((folder / "events.txt").read_text().splitlines())


def _train(trial: Trial) -> None:
    # Let it be what `python train.py` is: no child of another process, whose workers are forks.
    multiprocessing.process._parent_process = None  # type: ignore[attr-defined]
    multiprocessing.set_start_method("fork", force=True)
    gc.freeze()  # else it would copy all that it shares when it collects
    warnings.simplefilter("ignore")
    os.setsid()
    os.chdir(trial.cwd)
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    _count(trial.how, trial.event)
    sys.argv = [trial.script, *last_of_each_key(trial.words)]
    runpy.run_path(str(ROOT / trial.script), run_name="__main__")


def _count(how: str, at: tuple[str, int] | None) -> None:
    """Write each event of this process to `events.txt`, and stop it by `how` at one of them."""
    log = os.open("events.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    seen: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)
    process = os.getpid()

    def tick(name: str, finish: Callable[[], None] = lambda: None) -> None:
        if os.getpid() != process:
            return  # a loader worker
        os.write(log, f"{name}\n".encode())
        if (name, next(seen[name])) == at:  # one thread alone, of those that decode
            finish()
            _stop(how)

    def ticking(event: str, wrapped: Callable) -> Callable:
        @functools.wraps(wrapped)
        def call(*arguments: Any, **more: Any) -> Any:
            tick(event)
            return wrapped(*arguments, **more)

        return call

    for owner, name, event in (
        (preparation, "load_cohort", "cohort"),
        (preparation, "check_input_size", "size"),
        (cache.BagSource, "read", "hash"),
        (decoding, "open_unchanged", "decode"),
        (callbacks.History, "on_train_epoch_start", "epoch"),
        (lightning_module.BagClassifier, "training_step", "train"),
        (lightning_module.BagClassifier, "validation_step", "validate"),
        (lightning_module.BagClassifier, "predict_step", "predict"),
        (baselines, "prevalence", "baseline"),
        (os, "fsync", "fsync"),
    ):
        setattr(owner, name, ticking(event, getattr(owner, name)))

    replace = os.replace

    def ticking_replace(source: Any, target: Any) -> None:
        name = Path(target).name if ".npy" not in str(target) else "part.npy"
        tick(f"replace {name}")
        replace(source, target)
        tick(f"replaced {name}")

    class Ticking(io.BufferedWriter):
        def write(self, piece: Any) -> int:
            tick("write", self.flush)  # a kill leaves what was written before it
            return super().write(piece)

    def opened(path: Any, mode: str = "r", *more: Any) -> Any:
        return Ticking(io.FileIO(path, "w")) if mode == "wb" else open(path, mode, *more)

    os.replace = ticking_replace
    files.open = opened  # type: ignore[attr-defined]


def _stop(how: str) -> None:
    if how == "MEMORY":
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held, held))
        return
    Path("stopped.txt").write_text(str(time.monotonic()))
    os.kill(os.getpid(), signal.Signals[f"SIG{how}"])
