"""The ways to learn from images without labels, by name.

A method has a `head` that follows the encoder, and `loss(head's outputs, views)`, where the batch
holds `views` views of each image: all of the first, then all of the second.
"""

import inspect
import math
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from lymphoml.core.errors import InputError, one_line
from lymphoml.features.pretraining.settings import METHODS

# Methods that compare two views of each cell; losses are lightly's.

HIDDEN = 256  # features between the encoder and what is compared
COMPARED = {"simclr": 128, "vicreg": 256}  # features


class SimCLR(nn.Module):
    """The two views of a cell are nearer to each other than to any other view in the batch.

    Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations",
    equation 1, of cosines over `temperature`.
    """

    views = 2

    def __init__(self, dim: int, size: tuple[int, int], temperature: float):
        from lightly.loss import NTXentLoss  # imports timm and wandb, which takes seconds

        super().__init__()
        self.head = _projection(dim, COMPARED["simclr"])
        self.contrast = NTXentLoss(temperature)

    def loss(self, projected: Tensor, views: Tensor) -> Tensor:
        return self.contrast(*projected.chunk(2))


class VICReg(nn.Module):
    """Two views agree, each feature varies over the batch, no two features say the same.

    Bardes et al. 2022, "VICReg: Variance-Invariance-Covariance Regularization", equation 6.
    """

    views = 2

    def __init__(
        self,
        dim: int,
        size: tuple[int, int],
        invariance: float,
        variance: float,
        covariance: float,
    ):
        from lightly.loss import VICRegLoss

        super().__init__()
        self.head = _projection(dim, COMPARED["vicreg"])
        self.terms = VICRegLoss(invariance, variance, covariance)

    def loss(self, projected: Tensor, views: Tensor) -> Tensor:
        return self.terms(*projected.chunk(2))


def _projection(dim: int, out: int) -> nn.Module:
    """Thrown away after pretraining."""
    from lightly.models.modules.heads import ProjectionHead

    hidden = nn.BatchNorm1d(HIDDEN), nn.ReLU()
    return ProjectionHead([(dim, HIDDEN, *hidden), (HIDDEN, out, None, None)])


# A decoder that draws the cell again from its features.

GRID = 4  # pixels a side that the decoder begins with


class Autoencoder(nn.Module):
    """Mean squared error between what the encoder saw and what the decoder makes of its features.

    Each stage doubles the side and halves the channels, down to `width`.
    """

    views = 1

    def __init__(self, dim: int, size: tuple[int, int], width: int):
        super().__init__()
        stages = max(0, math.ceil(math.log2(max(size) / GRID)))
        channels = [width << min(stages - each, 3) for each in range(stages + 1)]
        layers: list[nn.Module] = [
            nn.Linear(dim, channels[0] * GRID**2),
            nn.Unflatten(1, (channels[0], GRID, GRID)),
        ]
        for inputs, outputs in pairwise(channels):
            layers += [
                nn.Upsample(scale_factor=2),
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
        layers += [nn.Upsample(size), nn.Conv2d(channels[-1], 3, 3, padding=1)]
        self.head = nn.Sequential(*layers)

    def loss(self, drawn: Tensor, views: Tensor) -> Tensor:
        return F.mse_loss(drawn, views)


CLASSES = dict(zip(METHODS, (SimCLR, VICReg, Autoencoder), strict=True))


def make_method(settings: dict[str, Any], dim: int, size: tuple[int, int]) -> Any:
    """That of the group `pretrain`, for features of width `dim` of images of (h, w) = `size`.

    Raises InputError for settings that it does not have.
    """
    method, given = CLASSES[settings["method"]], settings["loss"]
    try:
        inspect.signature(method).bind(dim, size, **given)
        return method(dim, size, **given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"pretrain.loss={given} of {settings['method']}: {one_line(error)[:200]}"
        ) from None
