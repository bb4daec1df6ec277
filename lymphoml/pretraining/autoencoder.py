"""A decoder that draws the cell again from its features."""

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

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
