"""The process that measures (a) or (b): `python -m benchmarks.speed.worker JOB ANSWER`."""

import itertools
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.jobs import Answer, Job, job_from
from benchmarks.speed.network import Network
from benchmarks.speed.patients import read_patients, split
from benchmarks.speed.plain import Plain
from benchmarks.speed.reference import Reference
from lymphoml.training import hardware

WARM_STEPS = 2


def measure(job: Job) -> Answer:
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    recipe, answer = _recipe(job), Answer()
    if job.steps is not None:
        epochs = itertools.chain.from_iterable(recipe.train() for _ in itertools.count())
        steps = itertools.islice(_marked(epochs, answer), WARM_STEPS + job.steps)
        ends = [_now() for _ in steps]
        answer.steps = [b - a for a, b in itertools.pairwise(ends[WARM_STEPS - 1 :])]
    for _ in range(job.epochs + 1 if job.steps is None else 0):
        answer.training.append(_rate(_marked(recipe.train(), answer)))
    for _ in range(job.passes + 1 if job.passes else 0):
        answer.inference.append(_rate(recipe.predict()))
    del answer.training[:1], answer.inference[:1]
    if torch.cuda.is_initialized():
        answer.cuda_peak_mib = torch.cuda.max_memory_allocated() / 2**20
    return answer


def _recipe(job: Job) -> Reference | Plain:
    everybody = read_patients(Path(job.cohort))
    device = "cuda" if hardware.uses_cuda(job.accelerator) else "cpu"
    training = split(everybody)[0]
    if job.variant == "reference":
        return Reference(Network(), training, everybody, device, job.condition.workers)
    hardware.tune_malloc()
    store, bf16 = Path(job.cache) / "plain.npy", job.precision == "bf16-mixed"
    return Plain(Network(), training, everybody, store, bf16, device, job.condition.workers)


def _marked(steps: Iterable[Any], answer: Answer) -> Iterator[Any]:
    """The steps, of which the very first leaves its time in the answer."""
    for step in steps:
        answer.first_step_at = answer.first_step_at or _now()
        yield step


def _rate(steps: Iterable[tuple[int, Any]]) -> float:
    """Images a second."""
    started = _now()
    images = sum(count for count, _ in steps)
    return images / (_now() - started)


def _now() -> float:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.monotonic()


if __name__ == "__main__":
    asked, answered = map(Path, sys.argv[1:])
    answered.write_text(json.dumps(asdict(measure(job_from(json.loads(asked.read_text()))))))
