"""Random views of images for pretraining: rotated, mirrored, zoomed, moved, of other colours."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lymphoml.core.types import Bytes, Pixels
from lymphoml.data.transforms import normalize, to_unit
from lymphoml.features.pretraining.settings import PretrainConfig


def draw_views(images: Bytes, settings: PretrainConfig) -> Pixels:
    """Return a view of each image, by torch's global generator of the CPU on any device."""
    places = affine(len(images), settings.zoom, settings.shift).to(images.device)
    views = jitter_colours(move(to_unit(images), places), settings.colour)
    return normalize(views) if settings.normalize_images else views


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


def move(images: Pixels, places: Float[Tensor, "n 2 3"]) -> Pixels:
    """Resample images at these places, bilinear, with reflection beyond the edge."""
    grid = F.affine_grid(places, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def jitter_colours(images: Pixels, amount: float) -> Pixels:
    """Change contrast by up to `amount` about the mean, each channel's level by up to half."""
    contrast = 1 + amount * _uniform(len(images), 1, 1, 1).to(images.device)
    level = amount / 2 * _uniform(len(images), images.shape[1], 1, 1).to(images.device)
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * contrast + mean + level


def _uniform(*shape: int) -> Tensor:
    """Draw from [-1, 1)."""
    return 2 * torch.rand(shape) - 1
