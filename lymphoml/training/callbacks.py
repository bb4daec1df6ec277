"""Callbacks of a training: keyed seeds, history, patience, progress."""

import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch

from lymphoml.core.files import write_text
from lymphoml.core.progress import ProgressBar
from lymphoml.core.seeding import keyed_seed
from lymphoml.core.types import Batch


class KeyedSeeds(pl.Callback):
    """Re-seed every global generator at every batch, so that a resumed fold draws the same."""

    def __init__(self, seed: int, fold: int | str):
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
        # torch.manual_seed records the whole stack each time, for a GPU that is not used: half a
        # millisecond.
        torch.default_generator.manual_seed(seed)


class History(pl.Callback):
    """Write `history.csv`, a row per epoch, as a whole at every epoch's end.

    Its rows are part of the checkpoint.
    """

    COLUMNS = ("epoch", "lr", "train/loss", "val/loss", "val/balanced_accuracy")

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.seconds = 0.0  # of all epochs, those before an interruption included

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.lr = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.images, self.started, self.speed = 0, time.perf_counter(), 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, i: int
    ) -> None:
        self.images += len(batch.images)
        if trainer.is_last_batch and torch.cuda.is_initialized():
            torch.cuda.synchronize()  # else the clock measures what was queued, not what is done
        # Validation comes after, and is not counted.
        self.speed = self.images / max(time.perf_counter() - self.started, 1e-9)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        module.log("images_per_second", self.speed)
        module.log("lr", self.lr)
        metrics, epoch = trainer.callback_metrics, trainer.current_epoch
        validated = (epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0

        def value(name: str) -> float | None:
            """Without what is noise in single precision."""
            known = validated or name == "train/loss"
            return float(f"{float(metrics[name]):.7g}") if known else None

        row: dict[str, Any] = {"epoch": epoch, "lr": self.lr}
        row |= {name: value(name) for name in self.COLUMNS[2:]}
        row["images_per_second"] = round(self.speed, 1)
        row |= {name: value(name) for name in sorted(metrics) if name.startswith("inner/")}
        self.rows.append(row)
        self.seconds += time.perf_counter() - self.started
        write_text(self.path, pd.DataFrame(self.rows).to_csv(index=False))

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows, self.seconds = list(state["rows"]), state["seconds"]


class Patience(pl.callbacks.EarlyStopping):
    """Stop after so many epochs without a lower inner loss, also when resumed there.

    The loss is known every `check_val_every_n_epoch` epochs. Lightning restores the count, but not
    that training had to stop.
    """

    def __init__(self, epochs: int, check_val_every_n_epoch: int):
        super().__init__("inner/loss", patience=math.ceil(epochs / check_val_every_n_epoch))

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


class FoldProgress(pl.Callback):
    """Advance the job's bar by fractions of an epoch; `history`, called before, counts images."""

    def __init__(self, bar: ProgressBar, fold: int, epochs: int, history: History):
        self.bar, self.fold, self.epochs, self.history = bar, fold, epochs, history

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if epoch := trainer.current_epoch:
            self.bar.advance(epoch)
            self.bar.print(f"fold {self.fold}: resuming after epoch {epoch} of {self.epochs}")

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, i: int
    ) -> None:
        self.bar.advance(
            1 / int(trainer.num_training_batches),
            f"fold {self.fold}  epoch {trainer.current_epoch + 1}/{self.epochs}  "
            f"{self.history.speed:.0f} images/s",
        )

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bar.advance(self.epochs - trainer.current_epoch)  # that early stopping saved
