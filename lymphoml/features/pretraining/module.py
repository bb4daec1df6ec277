"""Pretraining as Lightning sees it: views of cells through encoder and head, one cycle of rates."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lymphoml.core.seeding import keyed_generator
from lymphoml.data.image_store import ImageStore
from lymphoml.features.pretraining.methods import make_method
from lymphoml.features.pretraining.settings import PretrainConfig
from lymphoml.features.pretraining.views import Views
from lymphoml.training.checkpoint_schema import check_weights
from lymphoml.training.finite import check_pretraining


class Cells(Dataset):
    """The images of an ImageStore, patient after patient; an index is an array of numbers."""

    def __init__(self, store: ImageStore):
        self._store, self._patients = store, store.patients
        self._ends = np.cumsum(store.lengths)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, numbers: np.ndarray) -> Tensor:
        """Return images (n, 3, h, w) as bytes, channels last; each patient is mapped once."""
        images = np.empty((len(numbers), *self._store.size, 3), np.uint8)
        owners = np.searchsorted(self._ends, numbers, side="right")
        for owner in np.unique(owners):
            own, bag = owners == owner, self._store.bag(self._patients[owner])
            images[own] = bag[numbers[own] - (self._ends[owner] - len(bag))]
        return torch.from_numpy(images).permute(0, 3, 1, 2)


class EpochBatches(Sampler):
    """Batches of image numbers in an order drawn from (seed, epoch), without a last partial one.

    Lightning calls `set_epoch`.
    """

    def __init__(self, images: int, batch_size: int, seed: int):
        self.images, self.batch_size = images, min(batch_size, images)
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.images // self.batch_size

    def __iter__(self) -> Iterator[np.ndarray]:
        order = keyed_generator(self.seed, self.epoch, "cells").permutation(self.images)
        for batch in range(len(self)):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size]


class PretrainingModule(pl.LightningModule):
    """An encoder and a projection head that learn from two views of each image.

    `losses` are the mean losses of the epochs so far; they travel in the checkpoint.
    """

    def __init__(self, settings: PretrainConfig, encoder: Any, cells: Cells):
        super().__init__()
        self.settings, self.cells = settings, cells
        self.encoder = encoder
        self.method = make_method(settings.to_dict(), encoder.dim)
        self.views = Views(settings)
        self.losses: list[float] = []
        self.to(memory_format=torch.channels_last)

    def train_dataloader(self) -> DataLoader:
        batches = EpochBatches(len(self.cells), self.settings.batch_size, self.settings.seed)
        return DataLoader(self.cells, batch_size=None, sampler=batches)

    def configure_optimizers(self) -> Any:
        lr, steps = self.settings.lr, int(self.trainer.estimated_stepping_batches)
        optimizer = torch.optim.AdamW(
            self.parameters(), lr, weight_decay=self.settings.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, lr, total_steps=steps, pct_start=0.1, cycle_momentum=False
        )
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def on_train_epoch_start(self) -> None:
        self._step_losses: list[Tensor] = []
        self._started = time.perf_counter()

    def training_step(self, images: Tensor, batch_idx: int) -> Tensor:
        views = torch.cat([self.views(images), self.views(images)])
        views = views.contiguous(memory_format=torch.channels_last)
        outputs = self.method.head(self.encoder(views)).float()
        with torch.autocast(self.device.type, enabled=False):
            loss = self.method.loss(*outputs.chunk(2))
        self._step_losses.append(loss.detach())
        if self.device.type == "cpu":  # elsewhere reading it would wait for the device
            check_pretraining(loss.detach(), self, self.current_epoch, batch_idx)
        return loss

    def on_train_epoch_end(self) -> None:
        batches = len(self._step_losses)
        losses = torch.stack(self._step_losses)
        check_pretraining(losses, self, self.current_epoch, batches - 1)
        self.losses.append(float(losses.double().mean()))
        seconds = time.perf_counter() - self._started
        speed = batches * min(self.settings.batch_size, len(self.cells)) / seconds
        print(
            f"pretraining, epoch {self.current_epoch + 1} of {self.settings.epochs}: "
            f"loss {self.losses[-1]:.4f}, {speed:.0f} images/s, {seconds:.0f} s",
            flush=True,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["losses"] = self.losses

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_weights(self, checkpoint["state_dict"])
        self.losses = list(checkpoint["losses"])
