"""An encoder pretrained on the images of some patients, kept by what it was made from."""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lymphoml.core.errors import InputError, cache_error
from lymphoml.core.files import remove_stale_temp_files
from lymphoml.core.seeding import keyed_generator, keyed_seed
from lymphoml.data.cache import Images, cache_lock, content_key, hash_images
from lymphoml.data.decoding import Preprocessing
from lymphoml.data.image_store import ImageStore, read_images
from lymphoml.features.pretraining.encoder_file import ENCODER, is_whole, write_encoder
from lymphoml.features.pretraining.objective import LOSSES, draw_views, make_head
from lymphoml.features.pretraining.settings import PretrainConfig
from lymphoml.models.build import build, limit_size
from lymphoml.training import checkpoint as checkpoints
from lymphoml.training.callbacks import KeyedSeeds
from lymphoml.training.checkpoint_schema import check_weights
from lymphoml.training.finite import check_pretraining
from lymphoml.training.hardware import resolve_hardware, resolve_precision
from lymphoml.training.input_size import check_input_size
from lymphoml.training.settings import TrainerConfig
from lymphoml.training.trainer import make_trainer

VERSION = 3  # of pretraining: another number, another place in the cache


class Cells(Dataset):
    """The images of an ImageStore, patient after patient; an index is an array of numbers."""

    def __init__(self, store: ImageStore):
        self._store, self._patients = store, store.patients
        self._ends, self.size = np.cumsum(store.lengths), store.size

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, numbers: np.ndarray) -> Tensor:
        """Return images (n, 3, h, w) as bytes, channels last; each patient is mapped once."""
        images = np.empty((len(numbers), *self.size, 3), np.uint8)
        owners = np.searchsorted(self._ends, numbers, side="right")
        for owner in np.unique(owners):
            own, bag = owners == owner, self._store.bag(self._patients[owner])
            images[own] = bag[numbers[own] - (self._ends[owner] - len(bag))]
        return torch.from_numpy(images).permute(0, 3, 1, 2)


class EpochBatches(Sampler):
    """Batches of image numbers in an order drawn from (seed, epoch), without a partial one."""

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
    """An encoder and a head that learn from two views; `losses` are means of epochs."""

    def __init__(self, settings: PretrainConfig, encoder: Any, cells: Cells):
        super().__init__()
        self.settings, self.cells, self.encoder = settings, cells, encoder
        self.head = make_head(settings.method, encoder.dim)
        self.losses: list[float] = []
        self.to(memory_format=torch.channels_last)

    def train_dataloader(self) -> DataLoader:
        batches = EpochBatches(len(self.cells), self.settings.batch_size, self.settings.seed)
        return DataLoader(self.cells, batch_size=None, sampler=batches)

    def configure_optimizers(self) -> Any:
        lr, steps = self.settings.lr, int(self.trainer.estimated_stepping_batches)
        decay = self.settings.weight_decay
        optimizer = torch.optim.AdamW(self.parameters(), lr, weight_decay=decay)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, lr, total_steps=steps, pct_start=0.1, cycle_momentum=False
        )
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def on_train_epoch_start(self) -> None:
        self._step_losses: list[Tensor] = []
        self._started = time.perf_counter()

    def training_step(self, images: Tensor, batch_idx: int) -> Tensor:
        views = torch.cat([draw_views(images, self.settings) for _ in range(2)])
        views = views.contiguous(memory_format=torch.channels_last)
        outputs = self.head(self.encoder(views)).float()
        with torch.autocast(self.device.type, enabled=False):
            loss = LOSSES[self.settings.method](*outputs.chunk(2), **self.settings.loss)
        self._step_losses.append(loss.detach())
        if self.device.type == "cpu":  # elsewhere reading it would wait for the device
            check_pretraining(loss.detach(), self, self.current_epoch, batch_idx)
        return loss

    def on_train_epoch_end(self) -> None:
        losses = torch.stack(self._step_losses)
        check_pretraining(losses, self, self.current_epoch, len(losses) - 1)
        self.losses.append(float(losses.double().mean()))
        seconds = time.perf_counter() - self._started
        speed = len(losses) * min(self.settings.batch_size, len(self.cells)) / seconds
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


def pretrain_encoder(
    settings: PretrainConfig, images: Images, cache: str, trainer: TrainerConfig
) -> Path:
    """Return the encoder's folder in `cache`, resuming. Raises InputError, RuntimeFailure."""
    content = content_key(hash_images(images))
    made_from = {"version": VERSION, "settings": settings.to_dict(), "images": content}
    made_from["precision"] = resolve_precision(trainer.precision, trainer.accelerator)
    name = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:32]
    folder = Path(cache).expanduser() / "pretrained" / name
    if is_whole(folder):
        return folder
    store, _ = read_images(images, Preprocessing.of(settings), cache)
    try:
        with cache_lock(folder):
            remove_stale_temp_files(folder)
            if not is_whole(folder):  # whoever held the lock before may have finished it
                _pretrain(settings, Cells(store), folder, trainer, made_from)
    except OSError as error:
        raise cache_error(f"pretrained encoder {folder}", error) from None
    return folder


def _pretrain(
    settings: PretrainConfig, cells: Cells, folder: Path, trainer: TrainerConfig,
    made_from: dict[str, Any],
) -> None:  # fmt: skip
    if len(cells) < 2:
        raise InputError(f"pretraining: {len(cells)} images; at least 2 are needed")
    print(f"{folder / ENCODER}: {settings.method} pretraining on {len(cells):,} images", flush=True)
    with torch.random.fork_rng():
        torch.manual_seed(keyed_seed(settings.seed, "pretraining", "weights"))
        with limit_size():
            module = PretrainingModule(settings, build(settings.encoder), cells)
        resolved = resolve_hardware(trainer)
        check_input_size(
            module.encoder, f"pretrain.encoder={settings.encoder.get('name')}", cells.size,
            turned_by="pretraining", bf16_on_cpu=resolved.bf16_on_cpu, section="pretrain",
        )  # fmt: skip
        changes = {"max_epochs": settings.epochs, "check_val_every_n_epoch": 1, "patience": None}
        seeds = KeyedSeeds(settings.seed, "pretraining")
        callbacks = [seeds, checkpoints.SaveEpoch(folder, select=False)]
        lightning = make_trainer(
            trainer.replace(changes), folder, logger=False, callbacks=callbacks
        )
        lightning.fit(module, ckpt_path=_last_epoch(folder), weights_only=True)
    write_encoder(folder, module.encoder, made_from | {"losses": module.losses})
    for name in (checkpoints.LAST, checkpoints.PREVIOUS):
        checkpoints.AtomicCheckpointIO().remove_checkpoint(folder / name)


def _last_epoch(folder: Path) -> Path | None:
    """Return the newer intact checkpoint; None: pretraining starts again, to the same end."""
    for path in filter(Path.exists, (folder / checkpoints.LAST, folder / checkpoints.PREVIOUS)):
        if problem := checkpoints.verify_checksum(path):
            print(f"pretraining: {path} {problem}; resuming without it", flush=True)
            checkpoints.AtomicCheckpointIO().remove_checkpoint(path)
        else:
            print(f"pretraining resumes from {path}", flush=True)
            return path
    return None
