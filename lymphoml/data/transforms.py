"""From stored bytes to what the encoder sees, a whole batch at a time and on its device."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

# ImageNet's, in RGB, as torchvision's and timm's weights expect them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def to_unit(images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Grey values in [0, 1]: the paper's only transform."""
    return images.float().div_(255)


def normalise(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    mean, std = (images.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images - mean) / std


def flip(images: Float[Tensor, "n c h w"], generator: torch.Generator) -> Float[Tensor, "n c h w"]:
    """Each image mirrored left to right, and top to bottom, by a coin each."""
    for axis in (-1, -2):
        mirrored = _draw(images, generator) < 0.5
        images = torch.where(mirrored, images.flip(axis), images)
    return images


def rotate(
    images: Float[Tensor, "n c h w"], generator: torch.Generator
) -> Float[Tensor, "n c h w"]:
    """Each image turned by 0, 90, 180 or 270 degrees. Images must be square."""
    quarter = (_draw(images, generator) * 4).floor()
    rotated = images
    for turns in (1, 2, 3):
        rotated = torch.where(quarter == turns, torch.rot90(images, turns, (-2, -1)), rotated)
    return rotated


def jitter(
    images: Float[Tensor, "n c h w"], amount: float, generator: torch.Generator
) -> Float[Tensor, "n c h w"]:
    """Contrast, then brightness scaled by up to `amount` either way; clipped to [0, 1]."""
    contrast, brightness = (
        1 + amount * (2 * _draw(images, generator) - 1) for _ in ("contrast", "brightness")
    )
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (((images - mean) * contrast + mean) * brightness).clamp(0, 1)


def _draw(images: Tensor, generator: torch.Generator) -> Float[Tensor, "n 1 1 1"]:
    # Drawn on the CPU, so that every device sees the same numbers.
    return torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device)
