"""From stored bytes to what the encoder sees, any part of a batch at a time and on its device."""

from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

# ImageNet's, in RGB, as torchvision's and timm's weights expect them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
DRAWS = 5  # random numbers an image: two mirrors, a turn, contrast, brightness


class View:
    """The configured transforms: what is the same for every image, and what its `draws` decide.

    `data` is the configuration's group of that name. The draws of an image are DRAWS numbers,
    uniform in [0, 1); without them, in evaluation, nothing is random.
    """

    def __init__(self, data: dict[str, Any]):
        self.flip, self.rotate, self.colour = data["flip"], data["rotate"], data["colour"]
        self.normalise = data["normalise"]

    @property
    def random(self) -> bool:
        return bool(self.flip or self.rotate or self.colour)

    def __call__(
        self, images: UInt8[Tensor, "n c h w"], draws: Float[Tensor, "n 5"] | None = None
    ) -> Float[Tensor, "n c h w"]:
        if draws is not None and self.flip:
            images = flip(images, draws[:, :2])
        if draws is not None and self.rotate:
            images = rotate(images, draws[:, 2])
        unit = to_unit(images)
        if draws is not None and self.colour:
            unit = jitter(unit, self.colour, draws[:, 3:])
        return normalise(unit) if self.normalise else unit


def to_unit(images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Grey values in [0, 1]: the paper's only transform."""
    return images.float().div_(255)


def normalise(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    mean, std = (images.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images - mean) / std


def flip(images: UInt8[Tensor, "n c h w"], draws: Float[Tensor, "n 2"]) -> UInt8[Tensor, "n c h w"]:
    """Each image mirrored left to right, and top to bottom, where its draws are below a half."""
    for axis, mirrored in zip((-1, -2), _each_image(draws < 0.5), strict=True):
        images = torch.where(mirrored, images.flip(axis), images)
    return images


def rotate(
    images: UInt8[Tensor, "n c h w"], draws: Float[Tensor, " n"]
) -> UInt8[Tensor, "n c h w"]:
    """Each image turned by as many right angles as its draw has quarters. Images must be square."""
    (quarter,) = _each_image((draws * 4).floor().unsqueeze(1))
    rotated = images
    for turns in (1, 2, 3):
        rotated = torch.where(quarter == turns, torch.rot90(images, turns, (-2, -1)), rotated)
    return rotated


def jitter(
    images: Float[Tensor, "n c h w"], amount: float, draws: Float[Tensor, "n 2"]
) -> Float[Tensor, "n c h w"]:
    """Contrast, then brightness scaled by up to `amount` either way; clipped to [0, 1]."""
    contrast, brightness = _each_image(1 + amount * (2 * draws - 1))
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (((images - mean) * contrast + mean) * brightness).clamp(0, 1)


def _each_image(values: Tensor) -> tuple[Tensor, ...]:
    """The columns of (n k), each of shape (n 1 1 1)."""
    return values[:, :, None, None, None].unbind(1)
