"""The process that measures how fast a run of lymphoml's predicts.

    python -m benchmarks.speed.inference RUN PASSES ANSWER COHORT CACHE

Fold 0's model on all labelled patients, through what predict.py and the end of a fold go through.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from benchmarks.speed.jobs import Answer
from lymphoml.cli.config import run_config
from lymphoml.core.types import Batch
from lymphoml.data.datamodule import BagDataModule, PatientBags
from lymphoml.runs.prepare import prepare
from lymphoml.runs.run_folder import fold_folder, selected_epoch
from lymphoml.training.checkpoint import load_checkpoint, reported_checkpoint
from lymphoml.training.predict_fold import checkpoint_predictions
from lymphoml.training.trainer import make_trainer


class Clock(pl.Callback):
    """Images a second of each pass."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_predict_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.images, self.started = 0, time.perf_counter()

    def on_predict_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        self.images += int(batch.lengths.sum())

    def on_predict_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self.rates.append(self.images / (time.perf_counter() - self.started))


def measure(run: Path, passes: int, cohort: str, cache: str) -> Answer:
    places = {"root": cohort, "cache": cache}
    config, path, clock = run_config(run, places, {}), fold_folder(run, 0), Clock()
    prepared = prepare(config, run)
    data, seed = config["data"], config["seed"]
    fold = BagDataModule(data, prepared.cohort, prepared.store, prepared.folds, 0, seed)
    everybody = list(prepared.cohort.table.index)
    for _ in range(passes + 1):
        trainer = make_trainer(config["trainer"], path, logger=False, callbacks=[clock])
        bags = PatientBags(
            data, prepared.cohort, prepared.store, everybody, fold.clinical, seed, 0
        )  # fmt: skip
        checkpoint = load_checkpoint(reported_checkpoint(path, selected_epoch(run, 0)))
        checkpoint_predictions(checkpoint, path, trainer, bags)
    peak = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_initialized() else None
    return Answer(inference=clock.rates[1:], cuda_peak_mib=peak)


if __name__ == "__main__":
    found = measure(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[4:])
    Path(sys.argv[3]).write_text(json.dumps(asdict(found)))
