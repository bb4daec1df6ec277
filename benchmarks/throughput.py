"""Images per second of decoding, training and prediction on this machine: `make bench`.

    python benchmarks/throughput.py size=112 images=66 steps=5

One patient a step, as in the report, random pixels, ResNet18. Medians over the steps. What a whole
table costs follows from them: 13,453 labelled images, 5 folds, 20 epochs, 8 configurations are
about 8.6 million training images.
"""

import io
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from lymphoml import compute
from lymphoml.cli import option
from lymphoml.config import parse
from lymphoml.entry import entry
from lymphoml.module import BagClassifier
from lymphoml.types import Batch

PAPER_IMAGES = 13_453 * 4 // 5 * 5 * 20 * 8
ENCODER = {"_target_": "lymphoml.nn.encoders.torchvision_encoder", "name": "resnet18"}


@dataclass
class Throughput:
    size: int = option(112, "pixels a side")
    images: int = option(66, "images of the patient; 66 is the real cohort's median")
    steps: int = option(5, "timed steps, after one that is not")
    norm: str = option("batch", "batch, group or frozen")


def main(options: Throughput) -> None:
    threads = compute.set_threads(None)
    precision = compute.precision("auto", "auto")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"{compute.hardware('auto')}, {threads} threads, {precision}, {options.size} px")
    module = BagClassifier(
        model={
            "_target_": "lymphoml.nn.mil.MILModel",
            "encoder": ENCODER | {"norm": options.norm},
            "pooling": {"_target_": "lymphoml.nn.pooling.Mean"},
            "fusion": {"_target_": "lymphoml.nn.fusion.Concat"},
        },
        optim={"_target_": "torch.optim.SGD", "lr": 1e-4, "momentum": 0.9},
        scheduler=None,
        clinical_dim=2,
    ).to(device)
    optimizer = module.configure_optimizers()
    pixels = torch.rand(options.images, 3, options.size, options.size, device=device)
    batch = Batch(
        pixels.contiguous(memory_format=torch.channels_last),
        torch.tensor([options.images], device=device),
        torch.zeros(1, 2, device=device),
        torch.ones(1, device=device),
        ("P1",),
    )
    autocast = torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed")

    def train() -> None:
        with autocast:
            loss = torch.nn.functional.softplus(-module(batch)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the device

    def predict() -> None:
        with autocast, torch.inference_mode():
            module(batch).sum().item()

    jpegs = [_jpeg(options.size, seed) for seed in range(options.images)]

    def decode() -> None:
        for jpeg in jpegs:
            np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))

    rates = {}
    for name, work, mode in (("decode", decode, True), ("train", train, True),
                             ("predict", predict, False)):  # fmt: skip
        module.train(mode)
        rates[name] = options.images / _median_seconds(work, options.steps)
        print(f"{name:8} {rates[name]:8.1f} images/s")
    hours = PAPER_IMAGES / rates["train"] / 3600
    print(f"the report's 8 configurations at this size: {hours:.1f} hours of training")


def _median_seconds(work: Callable[[], None], steps: int) -> float:
    work()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _jpeg(size: int, seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (size // 8, size // 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((size, size)).save(file, "JPEG", quality=90)
    return file.getvalue()


if __name__ == "__main__":
    import sys

    entry(lambda: main(parse(Throughput, sys.argv[1:])))
