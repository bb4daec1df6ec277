"""Run one variant in this process: `python -m benchmarks.speed.worker JOB ANSWER`, JSON files.

The first epoch and the first pass over the held-out patients are not timed.
"""

import json
import runpy
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks.speed.plain import Plain
from benchmarks.speed.recipe import Network, read_patients, split
from benchmarks.speed.reference import Reference
from lymphoml.training import hardware

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Job:
    variant: str  # reference, plain or lymphoml
    cohort: str  # folder
    cache: str  # folder of decoded images, kept between rounds
    threads: int
    precision: str  # Lightning's name; the reference always runs in 32-true
    accelerator: str
    epochs: int  # timed
    passes: int  # timed, over the held-out patients
    overrides: list[str] = field(default_factory=list)  # of train.py


@dataclass
class Answer:
    first_step_at: float | None = None  # of time.monotonic(), which processes share
    training: list[float] = field(default_factory=list)  # images a second of each epoch
    inference: list[float] = field(default_factory=list)  # images a second of each pass
    cuda_peak_mib: float | None = None


def run_loop(job: Job) -> Answer:
    """Run the reference or the plain loop."""
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    training, held_out = split(read_patients(Path(job.cohort)))
    device = "cuda" if hardware.uses_cuda(job.accelerator) else "cpu"
    loop: Reference | Plain
    if job.variant == "reference":
        loop = Reference(Network(), training, held_out, device)
    else:
        hardware.tune_malloc()
        bf16 = job.precision == "bf16-mixed"
        loop = Plain(Network(), training, held_out, Path(job.cache) / "plain.npy", bf16, device)
    answer = Answer()

    def note_first_step(steps: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        for step in steps:
            answer.first_step_at = answer.first_step_at or _now()
            yield step

    answer.training = [_rate(note_first_step(loop.train())) for _ in range(1 + job.epochs)][1:]
    answer.inference = [_rate(loop.predict()) for _ in range(1 + job.passes)][1:]
    return answer


def run_lymphoml(job: Job) -> Answer:
    """Run train.py as a user does; torch's and Lightning's own functions are timed around it."""
    answer, run, predict = Answer(), Path("run").resolve(), pl.Trainer.predict

    def note_step(*_: Any) -> None:
        answer.first_step_at = answer.first_step_at or _now()

    def timed_predict(*args: Any, **kwargs: Any) -> Any:
        for _ in range(1 + job.passes):
            started = _now()
            batches: Any = predict(*args, **kwargs)
            images = sum(int(batch.lengths.sum()) for batch in batches)
            answer.inference.append(images / (_now() - started))
        return batches

    register_optimizer_step_post_hook(note_step)
    pl.Trainer.predict = timed_predict  # type: ignore[method-assign]
    sys.argv = [
        str(ROOT / "train.py"), "experiment=paper", "data=synthetic", "fold=0", "name=bench",
        "data.image_baselines=[]", f"data.root={job.cohort}", f"data.cache={job.cache}",
        f"trainer.max_epochs={1 + job.epochs}", f"trainer.num_threads={job.threads}",
        f"trainer.precision={job.precision}", f"trainer.accelerator={job.accelerator}",
        f"hydra.run.dir={run}", *job.overrides,
    ]  # fmt: skip
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            raise
    history = pd.read_csv(run / "fold-0" / "history.csv")
    answer.training = history["images_per_second"].tolist()[1:]
    answer.inference = answer.inference[1:]
    return answer


def _rate(steps: Iterable[tuple[int, Any]]) -> float:
    """Return images a second, from the call on."""
    started = _now()
    images = sum(count for count, _ in steps)
    return images / (_now() - started)


def _now() -> float:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.monotonic()


if __name__ == "__main__":
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    output = Path(sys.argv[2]).resolve()
    answer = run_lymphoml(job) if job.variant == "lymphoml" else run_loop(job)
    if torch.cuda.is_initialized():
        answer.cuda_peak_mib = torch.cuda.max_memory_allocated() / 2**20
    output.write_text(json.dumps(asdict(answer)))
