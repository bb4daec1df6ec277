"""Random views of images for pretraining: rotated, mirrored, zoomed, moved, of other colours."""

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
    """Draw a view of each image, by torch's global generator of the CPU on any device.

    `settings` is the configuration's section `pretrain`.
    """

    def __init__(self, settings: dict):
        self.zoom, self.shift, self.colour = (settings[key] for key in ("zoom", "shift", "colour"))
        self.normalize_images = settings["normalize_images"]

    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        moved = move(to_unit(images), affine(len(images), self.zoom, self.shift).to(images.device))
        coloured = jitter_colours(moved, self.colour)
        return normalize(coloured) if self.normalize_images else coloured


def affine(count: int, zoom: float, shift: float) -> Float[Tensor, "n 2 3"]:
    """Return random affine maps from a view's pixels to an image's, in half sides from the centre.

    Any angle, mirrored or not, `zoom` to 1 of a side, moved by up to `shift` along each axis.
    """
    angle = 2 * math.pi * torch.rand(count)
    scale = zoom + (1 - zoom) * torch.rand(count)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    right, down = shift * _uniform(2, count)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    maps = torch.stack([cos * mirror, -sin, right]), torch.stack([sin * mirror, cos, down])
    return torch.stack(maps).permute(2, 0, 1)


def move(
    images: Float[Tensor, "n c h w"], places: Float[Tensor, "n 2 3"]
) -> Float[Tensor, "n c h w"]:
    """Resample images at these places, bilinear, with reflection beyond the edge."""
    grid = F.affine_grid(places, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def jitter_colours(images: Float[Tensor, "n c h w"], amount: float) -> Float[Tensor, "n c h w"]:
    """Change contrast by up to `amount` about an image's mean, each channel's level by up to half.

    Of red, green and blue: unlike `data.augment.stain_jitter`, not of stains.
    """
    contrast = 1 + amount * _uniform(len(images), 1, 1, 1).to(images.device)
    level = amount / 2 * _uniform(len(images), images.shape[1], 1, 1).to(images.device)
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * contrast + mean + level


def _uniform(*shape: int) -> Tensor:
    """Draw from [-1, 1)."""
    return 2 * torch.rand(shape) - 1


class Cells:
    """The images of a store, numbered patient after patient, read as they are drawn."""

    def __init__(self, store: ImageStore):
        self._store, self._patients = store, store.patients
        self._ends = np.cumsum(store.lengths)
        self.size = store.size

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def take(self, numbers: np.ndarray) -> Tensor:
        """Return the cells of these numbers, uint8 (n, c, h, w)."""
        images = np.empty((len(numbers), *self.size, 3), np.uint8)
        owners = np.searchsorted(self._ends, numbers, side="right")
        for owner in np.unique(owners):
            wanted, bag = owners == owner, self._store.bag(self._patients[owner])
            images[wanted] = bag[numbers[wanted] - (self._ends[owner] - len(bag))]
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    def batches(self, size: int, *keys: int | str) -> Iterator[Tensor]:
        """Yield whole batches of cells, in an order drawn by `keys`."""
        order = keyed_generator(*keys, "cells").permutation(len(self))
        size = min(size, len(self))
        for batch in range(len(self) // size):
            yield self.take(order[batch * size : (batch + 1) * size])
