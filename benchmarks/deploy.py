"""`python -m benchmarks.deploy`: an exported ResNet18 beside torch, and how soon it is ready.

Trains two folds for one epoch on a synthetic cohort and exports them in single precision and in 8
bits. Then, in turns and on one thread: images per CPU second through both encoders by torch (eager,
contiguous as it comes, or channels last) and by each export. Last, seconds and memory of
`predict.py model=` for one patient of one image, by these and by two small networks.
"""

import argparse
import copy
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from lymphoml.cli.config import run_config
from lymphoml.data.decoding import Preprocessing
from lymphoml.deploy.export import export
from lymphoml.deploy.folds import open_folds
from lymphoml.deploy.graphs import Encoders, Preprocess
from lymphoml.deploy.runtime import ExportedModel
from lymphoml.runs.settings import TrainConfig

ROOT = Path(__file__).parents[1]
IMAGES = 16
TORCH = "torch", "torch, channels last"
SMALL = "resnet10_quarter"


def call(*words: str) -> None:
    """Run a program of the checkout; where it fails, end with what it says."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)


def train(folder: Path, encoder: str) -> tuple[Path, TrainConfig]:
    """Return a run of two folds of a network, and how it is read."""
    run, cohort, cache = folder / encoder, folder / "cohort", folder / "cache"
    call("train.py", "experiment=paper", f"model/encoder={encoder}", "data=synthetic",
         f"data.root={cohort}", f"data.cache={cache}", "data.folds=2", "data.train_bag_size=2",
         "data.image_baselines=[]", "trainer.max_epochs=1", "logger=none",
         f"hydra.run.dir={run}")  # fmt: skip
    data = {"root": str(cohort), "cache": str(cache)}
    return run, run_config(run, data, {"accelerator": "cpu", "precision": "32-true"})


def make_models(folder: Path, size: int) -> tuple[Encoders, dict[str, Path]]:
    """Return the two encoders of a ResNet18's run, and the exports by their numbers."""
    call("-m", "lymphoml", "synthesize", f"out={folder / 'cohort'}", f"size={size}",
         "images=[4,4]", "patients=16", "test_patients=1")  # fmt: skip
    run, config = train(folder, "resnet18")
    exports = {
        "float32": export(run, config, folder / "float32"),
        "int8": export(run, config, folder / "int8", "int8", accept_changes=True),
        "small": export(*train(folder, SMALL), folder / "small"),
    }
    folds = open_folds(run, config).opened
    views = [each.bags.tta_views for each in folds]
    preprocess = Preprocess(Preprocessing.of(config.data))
    return Encoders([each.model for each in folds], views, preprocess).eval(), exports


def ways(encoders: Encoders, exports: dict[str, Path], images: np.ndarray) -> dict[str, Callable]:
    """Return what takes the images (n h w 3) through both encoders, by name."""

    @torch.no_grad()
    def through(network: Encoders) -> None:
        network(torch.from_numpy(images))

    torch.set_num_threads(1)
    last = copy.deepcopy(encoders).to(memory_format=torch.channels_last)
    # The run's networks have channels last, and so have images as decoded.
    encoders.to(memory_format=torch.contiguous_format)
    encoders.preprocess.register_forward_hook(lambda _, __, images: images.contiguous())
    found = {TORCH[0]: partial(through, encoders), TORCH[1]: partial(through, last)}
    return found | {
        name: partial(ExportedModel(exports[name]).encode, images) for name in ("float32", "int8")
    }


def rates(ways: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Return images per CPU second of each way, a number a round; the first is not counted."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            started = time.process_time()
            way()
            found[name].append(IMAGES / (time.process_time() - started))
    return {name: each[1:] for name, each in found.items()}


def format_rates(found: dict[str, list[float]]) -> str:
    """Return a line a way: median images per CPU second, and the median ratio to each of torch."""
    lines = []
    for name, each in found.items():
        line = [f"{name}: {statistics.median(each):.1f} images per CPU second"]
        for other in TORCH:
            ratios = [one / of_torch for one, of_torch in zip(each, found[other], strict=True)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            line.append(f"{statistics.median(ratios):.2f} ({spread}) times {other}")
        lines.append("; ".join(line))
    return "\n".join(lines)


# In a process of its own: a child's memory is at first its parent's.
TIMED = """import os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - started, usage.ru_maxrss)
sys.exit(status)"""


def readiness(model: Path, images: Path, rounds: int) -> str:
    """Return seconds and memory of `predict.py model=` for one patient of a folder of images."""
    words = [f"model={model}", f"images={images}", "age=67", "lymphocyte_count=9.1"]
    timed = [sys.executable, "-c", TIMED, sys.executable, "predict.py", *words]
    found = [subprocess.run(timed, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
             for _ in range(rounds)]  # fmt: skip
    seconds, memory = zip(*(map(float, each.stdout.split()) for each in found), strict=True)
    median = f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
    return f"one patient of one image by {model.name}: {median}, {max(memory) / 1000:.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deploy", description=__doc__)
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--rounds", type=int, default=9, help="of all ways")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # onnxruntime counts cores
    with tempfile.TemporaryDirectory(prefix="lymphoml-bench-") as folder:
        encoders, exports = make_models(Path(folder), options.size)
        shape = (IMAGES, options.size, options.size, 3)
        images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        print(format_rates(rates(ways(encoders, exports, images), options.rounds)))
        patient = Path(folder) / "patient"
        patient.mkdir()
        shutil.copy(next((Path(folder) / "cohort").rglob("*.jpg")), patient)
        for name in ("float32", "small"):
            print(readiness(exports[name], patient, options.rounds))


if __name__ == "__main__":
    main()
