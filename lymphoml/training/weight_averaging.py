"""Averaged weights, by Lightning's callback: what is validated, reported and saved.

Running statistics of BatchNorm are averaged like the weights, as Lightning and timm do.
"""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lymphoml.training.settings import WeightAveragingConfig


class WeightAverage(pl.callbacks.WeightAveraging):
    """Averages after every `every` optimiser steps, before the epoch's validation."""

    def __init__(self, every: int, **average: Any):
        super().__init__(**average)
        self.every = every

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and (step_idx + 1) % self.every == 0


def weight_averaging(
    section: WeightAveragingConfig, max_epochs: int, steps: int
) -> WeightAverage | None:
    """Return the callback of the group `weight_averaging`; `steps` are those of an epoch.

    `ema` is the exponential moving average over all steps. `swa` is the mean of the epochs' ends
    after `start` of the epochs, and until then the last epoch's end.
    """
    if section.decay is not None:
        return WeightAverage(1, multi_avg_fn=get_ema_multi_avg_fn(section.decay))
    if section.start is None:
        return None
    start = int(section.start * max_epochs)

    def running_mean(average: Tensor, current: Tensor, epoch: Tensor | int) -> Tensor:
        if not average.is_floating_point():
            return current
        return torch.lerp(average, current, 1 / (max(int(epoch) - start, 0) + 1))

    return WeightAverage(steps, avg_fn=running_mean)
