"""Averages of the weights, beside those that learn: what is validated, reported and kept.

Lightning's callback holds the average, swaps it in for validation and stores both in checkpoints,
so that a fold goes on from both. BatchNorm's statistics are no weights: the mean of statistics is
not the statistics of the mean. They are taken anew from the training batches, under the averaged
weights, wherever these are about to be used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lymphoml.core.types import Batch
from lymphoml.data.datamodule import BagDataModule
from lymphoml.training.lightning_module import BagClassifier


class Averaging(pl.callbacks.WeightAveraging):
    """`ema` of every step or, with `swa`, the mean of the epochs' ends after `start` epochs.

    Until then swa's average is the latest epoch's end.
    """

    def __init__(self, bags: BagDataModule, decay: float | None, start: int):
        # foreach's lerp: weights that stay as they are keep their bits.
        more: Any = {} if decay is None else {"multi_avg_fn": get_ema_multi_avg_fn(decay)}
        super().__init__(use_buffers=False, **more)
        self.bags, self.every_step, self.start = bags, decay is not None, start
        self.refreshed = -1  # the epoch whose average has statistics of its own

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, i: int
    ) -> None:
        # Before the epoch's validation, which Lightning's own update at an epoch's end comes after.
        average: Any = self._average_model
        if self.every_step or trainer.is_last_batch:
            if not self.every_step and trainer.current_epoch <= self.start:
                average.n_averaged.zero_()  # the next is a copy
            average.update_parameters(module)

    def on_validation_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        super().on_validation_epoch_start(trainer, module)
        self._refresh(trainer, module)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if last and self.refreshed < trainer.current_epoch:  # it was not validated
            with self.swapped_in(module):
                self._refresh(trainer, module)

    @contextmanager
    def swapped_in(self, module: pl.LightningModule) -> Iterator[None]:
        """The module has the average's weights meanwhile."""
        self._swap_models(module)
        yield
        self._swap_models(module)

    def _refresh(self, trainer: pl.Trainer, module: Any) -> None:
        self.refreshed = trainer.current_epoch
        batches = (
            trainer.strategy.batch_to_device(batch)
            for batch in self.bags.training_batches(trainer.current_epoch)
        )
        with trainer.precision_plugin.forward_context():
            refresh_statistics(module, batches)


def averaging(spec: dict[str, Any], epochs: int, bags: BagDataModule) -> Averaging | None:
    """What the group `weight_averaging` of a configuration asks for."""
    if spec["kind"] is None:
        return None
    if spec["kind"] == "ema":
        return Averaging(bags, spec["decay"], 0)
    return Averaging(bags, None, int(spec["start"] * epochs))


@torch.no_grad()
def refresh_statistics(module: BagClassifier, batches: Iterator[Batch]) -> None:
    """BatchNorm's running statistics become the mean of those of the training batches.

    As torch.optim.swa_utils.update_bn does, which takes no ragged batch. Nothing happens without a
    BatchNorm that learns its statistics.
    """
    modes = [(each, each.training) for each in module.modules()]
    module.train()
    layers = {
        layer: layer.momentum
        for layer in module.modules()
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.training  # not frozen
    }
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches, each counting alike
    for batch in batches if layers else ():
        module.model.pool(module.embed(batch), batch.lengths)  # a pooling may have one as well
    for layer, momentum in layers.items():
        layer.momentum = momentum
    for each, mode in modes:
        each.training = mode
