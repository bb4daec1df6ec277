"""What stands where a network has BatchNorm.

With one bag a step BatchNorm centres every bag on itself in training, and what sets one patient
apart from another reaches the classifier only in evaluation. The two others treat an image the
same whatever comes with it, in training as in evaluation.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lymphoml.core.errors import InputError


class GroupNorm(nn.GroupNorm):
    """Takes over a BatchNorm's scale and shift, in as many groups as divide the channels, up to 32.

    A group has at least two channels, where there are two: of one channel it would be InstanceNorm,
    which takes from each channel how much of it an image has.
    """

    def __init__(self, batch_norm: nn.BatchNorm2d):
        channels = batch_norm.num_features
        most = min(max(channels // 2, 1), 32)
        groups = max(divisor for divisor in range(1, most + 1) if channels % divisor == 0)
        super().__init__(groups, channels, batch_norm.eps)
        self.weight, self.bias = batch_norm.weight, batch_norm.bias
        self.act = _activation(batch_norm)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        if x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last):
            # torch's own kernel for this layout takes up to 20 times as long as the two copies.
            normalised = super().forward(x.contiguous())
            return self.act(normalised.contiguous(memory_format=torch.channels_last))
        return self.act(super().forward(x))


class FrozenBatchNorm(nn.BatchNorm2d):
    """A BatchNorm that always uses its running statistics; its scale and shift still learn.

    For trained weights: from scratch the statistics are 0 and 1, which normalises nothing.
    """

    def __init__(self, batch_norm: nn.BatchNorm2d):
        super().__init__(batch_norm.num_features, batch_norm.eps)
        self.weight, self.bias = batch_norm.weight, batch_norm.bias
        self.running_mean, self.running_var = batch_norm.running_mean, batch_norm.running_var
        self.act = _activation(batch_norm)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenBatchNorm":
        return super().train(False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return self.act(super().forward(x))


NORMS: dict[str, Callable[[nn.BatchNorm2d], nn.Module]] = {
    "batch": lambda batch_norm: batch_norm,
    "group": GroupNorm,
    "frozen": FrozenBatchNorm,
}


def set_norm(network: nn.Module, norm: str) -> None:
    """Put `norm`, a key of NORMS, in the place of every BatchNorm2d of `network`."""
    if norm not in NORMS:
        raise InputError(f"encoder norm: {norm}; allowed are {', '.join(NORMS)}")
    found = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.BatchNorm2d)
    ]
    if not found and norm != "batch":
        raise InputError(
            f"encoder norm: {norm}; this network has no BatchNorm: set model.encoder.norm=batch"
        )
    for parent, name, child in found:
        setattr(parent, name, NORMS[norm](child))


def _activation(batch_norm: nn.BatchNorm2d) -> nn.Module:
    """The activation that timm's BatchNormAct2d applies after normalising."""
    return getattr(batch_norm, "act", nn.Identity())
