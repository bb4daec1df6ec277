"""The events of a `train.py`, and a stop at the n-th of them."""

import atexit
import builtins
import functools
import io
import itertools
import os
import resource
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lymphoml.core import files
from lymphoml.data import cache, decoding
from lymphoml.runs import baselines
from lymphoml.runs import prepare as preparation
from lymphoml.training import callbacks, lightning_module


def count(how: str, at: tuple[str, int] | None) -> None:
    """Write each event of this process to `events.txt`, and stop it by `how` at one of them."""
    log = os.open("events.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    seen: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)
    process, at = os.getpid(), at and tuple(at)  # type: ignore[assignment]

    def tick(name: str, finish: Callable[[], None] = lambda: None) -> None:
        if os.getpid() != process:
            return  # a loader worker
        os.write(log, f"{name}\n".encode())
        if (name, next(seen[name])) == at:  # one thread alone, of those that decode
            finish()
            _stop(how)

    known = set(sys.modules)
    atexit.register(lambda: Path("modules.txt").write_text("\n".join({*sys.modules} - known)))
    for owner, name, event in (
        (preparation, "load_cohort", "cohort"),
        (preparation, "check_input_size", "size"),
        (cache.BagSource, "read", "hash"),
        (decoding, "open_unchanged", "decode"),
        (callbacks.History, "on_train_epoch_start", "epoch"),
        (lightning_module.BagClassifier, "training_step", "train"),
        (lightning_module.BagClassifier, "validation_step", "validate"),
        (lightning_module.BagClassifier, "predict_step", "predict"),
        (baselines, "random_forest", "baseline"),
    ):
        _before(owner, name, functools.partial(tick, event))

    replace, sync = os.replace, os.fsync

    def ticking_replace(source: Any, target: Any) -> None:
        name = Path(target).name if ".npy" not in str(target) else "part.npy"
        tick(f"replace {name}")
        replace(source, target)
        tick(f"replaced {name}")

    def ticking_sync(descriptor: int) -> None:
        tick("fsync")
        sync(descriptor)

    class Ticking(io.BufferedWriter):
        def write(self, piece: Any) -> int:
            tick("write", self.flush)  # a kill leaves what was written before it
            return super().write(piece)

    def opened(path: Any, mode: str = "r", *more: Any) -> Any:
        return Ticking(io.FileIO(path, "w")) if mode == "wb" else builtins.open(path, mode, *more)

    os.replace, os.fsync = ticking_replace, ticking_sync
    files.open = opened  # type: ignore[attr-defined]


def _before(owner: Any, name: str, tick: Callable[[], None]) -> None:
    wrapped = getattr(owner, name)

    @functools.wraps(wrapped)
    def ticking(*arguments: Any, **more: Any) -> Any:
        tick()
        return wrapped(*arguments, **more)

    setattr(owner, name, ticking)


def _stop(how: str) -> None:
    if how == "MEMORY":
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held, held))
        return
    Path("stopped.txt").write_text(str(time.monotonic()))
    os.kill(os.getpid(), signal.Signals[f"SIG{how}"])
