"""What happens beside the learning: keyed seeds, the history, when to stop."""

import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor

from lymphoml.core.files import write_text
from lymphoml.core.seeding import keyed_seed
from lymphoml.core.types import Batch


class KeyedSeeds(pl.Callback):
    """Re-seed every global generator at every batch, so that a resumed fold draws the same."""

    def __init__(self, seed: int, fold: int):
        self.keys = (seed, fold)

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        seed = keyed_seed(*self.keys, trainer.current_epoch, batch_idx) % 2**32
        if trainer.strategy.root_device.type != "cpu":
            pl.seed_everything(seed, verbose=False)
            return
        random.seed(seed)
        np.random.seed(seed)
        # torch.manual_seed would note the whole stack each time, for a GPU that never wakes up:
        # half a millisecond.
        torch.default_generator.manual_seed(seed)


class History(pl.Callback):
    """`history.csv`: a row an epoch, part of the checkpoint, written whole at every epoch's end."""

    COLUMNS = ("epoch", "lr", "train/loss", "val/loss", "val/balanced_accuracy")

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.seconds = 0.0  # of all epochs, those before an interruption included

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.lr = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.images, self.started, self.ended = 0, time.perf_counter(), 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, i: int
    ) -> None:
        self.images += len(batch.images)
        if trainer.is_last_batch and torch.cuda.is_initialized():
            torch.cuda.synchronize()  # else the clock would tell what was asked for, not done
        self.ended = time.perf_counter()  # validation comes after, and is not counted

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        speed = self.images / max(self.ended - self.started, 1e-9)
        module.log("images_per_second", speed)
        module.log("lr", self.lr)
        metrics = trainer.callback_metrics
        row: dict[str, Any] = {"epoch": trainer.current_epoch, "lr": self.lr}
        validated = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        for name in self.COLUMNS[2:]:
            known = validated or not name.startswith("val/")
            row[name] = _rounded(metrics[name]) if known else None
        row["images_per_second"] = round(speed, 1)
        for name in sorted(name for name in metrics if name.startswith("inner/")):
            row[name] = _rounded(metrics[name]) if validated else None
        self.rows.append(row)
        self.seconds += time.perf_counter() - self.started
        write_text(self.path, pd.DataFrame(self.rows).to_csv(index=False))

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows, self.seconds = list(state["rows"]), state["seconds"]


def _rounded(value: Tensor) -> float:
    """Without the digits that float32 made up."""
    return float(f"{float(value):.7g}")


class Patience(pl.callbacks.EarlyStopping):
    """Stop when the inner loss has not improved for so many epochs; also a fold resumed there.

    It is known every `check_val_every_n_epoch` epochs. Lightning restores the count, and forgets that it had
    said stop.
    """

    def __init__(self, epochs: int, check_val_every_n_epoch: int):
        super().__init__("inner/loss", patience=math.ceil(epochs / check_val_every_n_epoch))

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience
