"""Views of cells: dihedral by any angle, mirrored, nearer, moved, of other contrast and colours."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from lymphoml.core.seeding import keyed_generator
from lymphoml.data.image_store import ImageStore
from lymphoml.data.transforms import normalize, to_unit


class Views:
    """Draws a view of each image from torch's global generator of the CPU, whatever the device.

    `settings` is the configuration's group `pretrain`.
    """

    def __init__(self, settings: dict):
        self.zoom, self.shift, self.colour = (settings[key] for key in ("zoom", "shift", "colour"))
        self.normalise = settings["normalize_images"]

    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        moved = move(to_unit(images), affine(len(images), self.zoom, self.shift).to(images.device))
        coloured = jitter_colours(moved, self.colour)
        return normalize(coloured) if self.normalise else coloured


def affine(count: int, zoom: float, shift: float) -> Float[Tensor, "n 2 3"]:
    """From where in an image a view takes its pixels, in half sides from the centre.

    Any angle, mirrored or not, `zoom` to 1 of a side, moved by up to `shift` along each axis.
    """
    angle = 2 * math.pi * torch.rand(count)
    scale = zoom + (1 - zoom) * torch.rand(count)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    right, down = shift * _either_way(2, count)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = torch.stack([cos * mirror, -sin, right]), torch.stack([sin * mirror, cos, down])
    return torch.stack(rows).permute(2, 0, 1)


def move(
    images: Float[Tensor, "n c h w"], places: Float[Tensor, "n 2 3"]
) -> Float[Tensor, "n c h w"]:
    """Bilinear; what lies beyond the edge is mirrored in."""
    grid = F.affine_grid(places, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def jitter_colours(images: Float[Tensor, "n c h w"], amount: float) -> Float[Tensor, "n c h w"]:
    """Contrast by up to `amount` about an image's mean, each colour's level by up to half of it.

    Of red, green and blue as they are: unlike `data.augment.stain_jitter` it knows no dye.
    """
    contrast = 1 + amount * _either_way(len(images), 1, 1, 1).to(images.device)
    level = amount / 2 * _either_way(len(images), images.shape[1], 1, 1).to(images.device)
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * contrast + mean + level


def _either_way(*shape: int) -> Tensor:
    """Uniform in [-1, 1)."""
    return 2 * torch.rand(shape) - 1


# The images of many patients as one row of cells, read from the image store as they are drawn.


class Cells:
    """Cell k is the k-th image of the store, patient after patient."""

    def __init__(self, store: ImageStore):
        self._store, self._patients = store, store.patients
        self._ends = np.cumsum(store.lengths)
        self.size = store.size

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def take(self, numbers: np.ndarray) -> Tensor:
        """The cells of these numbers, uint8 (n, c, h, w); each patient's part is mapped once."""
        images = np.empty((len(numbers), *self.size, 3), np.uint8)
        owners = np.searchsorted(self._ends, numbers, side="right")
        for owner in np.unique(owners):
            wanted, bag = owners == owner, self._store.bag(self._patients[owner])
            images[wanted] = bag[numbers[wanted] - (self._ends[owner] - len(bag))]
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    def batches(self, size: int, *keys: int | str) -> Iterator[Tensor]:
        """All cells in the order that `keys` draw, but for those that fill no batch."""
        order = keyed_generator(*keys, "cells").permutation(len(self))
        size = min(size, len(self))
        for batch in range(len(self) // size):
            yield self.take(order[batch * size : (batch + 1) * size])
