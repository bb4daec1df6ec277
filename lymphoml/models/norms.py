"""Replacements for BatchNorm that give an image the same features whatever the batch.

With one bag a step, BatchNorm subtracts each bag's own mean in training.
"""

from typing import Any

import torch
from torch import nn

from lymphoml.core.errors import InputError
from lymphoml.core.types import Pixels


class GroupNorm(nn.GroupNorm):
    """Keep a BatchNorm's scale and shift; up to 32 groups, of two channels where possible."""

    def __init__(self, batch_norm: nn.BatchNorm2d):
        channels = batch_norm.num_features
        max_groups = min(max(channels // 2, 1), 32)
        groups = max(divisor for divisor in range(1, max_groups + 1) if channels % divisor == 0)
        super().__init__(groups, channels, batch_norm.eps)
        self.weight, self.bias = batch_norm.weight, batch_norm.bias
        self.act = getattr(batch_norm, "act", nn.Identity())  # timm's BatchNormAct2d has one

    def forward(self, x: Pixels) -> Pixels:
        if x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last):
            # torch's kernel for this layout takes up to 20 times as long as the two copies.
            normalized = super().forward(x.contiguous())
            return self.act(normalized.contiguous(memory_format=torch.channels_last))
        return self.act(super().forward(x))


class FrozenBatchNorm(nn.BatchNorm2d):
    """A BatchNorm that always uses its pretrained running statistics; scale and shift train."""

    def __init__(self, batch_norm: nn.BatchNorm2d):
        super().__init__(batch_norm.num_features, batch_norm.eps)
        self.weight, self.bias = batch_norm.weight, batch_norm.bias
        self.running_mean, self.running_var = batch_norm.running_mean, batch_norm.running_var
        self.act = getattr(batch_norm, "act", nn.Identity())
        self.eval()

    def train(self, mode: bool = True) -> "FrozenBatchNorm":
        return super().train(False)

    def forward(self, x: Pixels) -> Pixels:
        return self.act(super().forward(x))


NORMS: dict[str, Any] = {"batch": None, "group": GroupNorm, "frozen": FrozenBatchNorm}


def set_norm(network: nn.Module, norm: str) -> None:
    """Replace every BatchNorm2d of `network` by `norm`, a key of NORMS."""
    if norm not in NORMS:
        raise InputError(f"encoder norm: {norm}; must be one of {', '.join(NORMS)}")
    if norm == "batch":
        return
    batch_norms = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.BatchNorm2d)
    ]
    if not batch_norms:
        raise InputError(f"encoder norm: {norm}; it has no BatchNorm: set model.encoder.norm=batch")
    for parent, name, child in batch_norms:
        setattr(parent, name, NORMS[norm](child))
