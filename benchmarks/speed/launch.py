"""Runs train.py as a user does, and notes when its steps ended.

    python -m benchmarks.speed.launch ANSWER STEPS train.py WORD ...

After STEPS steps (0: never) it is stopped as by Ctrl-C. A hook of torch's own tells the steps, so
that nothing of lymphoml knows of it.
"""

import json
import runpy
import signal
import sys
import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks.speed.jobs import Answer
from benchmarks.speed.worker import WARM_STEPS


def main(answer: Path, steps: int, script: str, words: list[str]) -> None:
    ends: list[float] = []

    def note(*_: Any) -> None:
        if steps or not ends:
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            ends.append(time.monotonic())
        if steps and len(ends) == WARM_STEPS + steps:
            signal.raise_signal(signal.SIGINT)

    register_optimizer_step_post_hook(note)
    sys.argv = [script, *words]
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        seconds = [b - a for a, b in pairwise(ends[WARM_STEPS - 1 :])]
        peak = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_initialized() else None
        found = Answer(ends[0] if ends else None, steps=seconds, cuda_peak_mib=peak)
        answer.write_text(json.dumps(asdict(found)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
