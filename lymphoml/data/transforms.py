"""From stored bytes to what the encoder sees, any part of a batch at a time and on its device."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

# Stain augmentation: as if every image had been stained a little longer or shorter, by each dye.
#
# Colour deconvolution (Ruifrok and Johnston 2001) writes a pixel's optical density as a sum of stain
# vectors; the concentrations are scaled and shifted, image by image (Tellez et al. 2018, "Whole-slide
# mitosis detection in H&E breast histology").
#
# The vectors are those of haematoxylin, eosin and DAB, as in scikit-image. Blood smears are stained
# by May-Grünwald and Giemsa, whose dyes are azure and eosin, without haematoxylin or DAB. Here
# the three are no more than a basis of colours: purple (nuclei), pink (red cells) and brown (left
# over) change apart from each other, and no concentration means an amount of a dye.
#

# Optical density a unit of haematoxylin, eosin and DAB, in red, green and blue.
RGB_FROM_HED = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
DARKEST = 1e-6  # of the light: black has a density, as in scikit-image


def jitter_stains(
    images: Float[Tensor, "n 3 h w"], amount: float, draws: Float[Tensor, "n 6"]
) -> Float[Tensor, "n 3 h w"]:
    """Each stain scaled by 1 ± `amount`, then shifted by up to ± `amount`; clipped to [0, 1].

    Concentrations c solve c · RGB_FROM_HED = -ln(light), so a shift of 0.1 is a tenth of a natural
    unit of optical density. Negative ones are kept, where scikit-image drops them: with `amount` 0
    every colour stays as it is.
    """
    vectors = images.new_tensor(RGB_FROM_HED)
    scale, shift = (amount * (2 * draws - 1)).chunk(2, dim=1)
    # density · inverse · diag(1 + scale) · vectors: one matrix an image, I and what is added to it.
    changed = torch.linalg.inv(vectors) @ (scale.unsqueeze(-1) * vectors)
    light = images.permute(0, 2, 3, 1)
    density = -light.clamp(min=DARKEST).log()
    added = density.flatten(1, 2) @ changed + (shift @ vectors).unsqueeze(1)
    return (light * (-added).exp().view_as(light)).clamp(0, 1).permute(0, 3, 1, 2)


# ImageNet's, in RGB, as torchvision's and timm's weights expect them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# Random numbers an image, by the key of their generator, so that a new option changes no other's:
# two mirrors, a turn, contrast, brightness; scale and shift of three stains; magnification.
NOISE_SIZES = {"augment": 5, "stain": 6, "zoom": 1}
DRAWS = sum(NOISE_SIZES.values())
# The settings of a view that shows every image as it is.
IDENTITY = {
    "augment": {
        "flip": False,
        "rotate": False,
        "scale": 0.0,
        "color_jitter": 0.0,
        "stain_jitter": 0.0,
    },
    "eval_tta": 1,
}


class BatchTransform:
    """The configured transforms: what is the same for every image, and what its `draws` decide.

    `data` is the configuration's group of that name. The draws of an image are DRAWS numbers,
    uniform in [0, 1); without them, in evaluation, nothing is random.
    """

    def __init__(self, data: dict[str, Any]):
        augment = data["augment"]
        self.flip, self.rotate, self.zoom = augment["flip"], augment["rotate"], augment["scale"]
        self.colour, self.stain = augment["color_jitter"], augment["stain_jitter"]
        self.normalise, self.tta = data["normalize_images"], data["eval_tta"]

    @property
    def random(self) -> bool:
        return bool(self.flip or self.rotate or self.zoom or self.colour or self.stain)

    @property
    def evaluated(self) -> list[Callable[..., Tensor]]:
        """The views whose logits evaluation averages: of `tta` symmetries of the square."""
        return [partial(self, symmetry=symmetry) for symmetry in range(self.tta)]

    def __call__(
        self,
        images: UInt8[Tensor, "n c h w"],
        draws: Float[Tensor, "n 12"] | None = None,
        symmetry: int = 0,
    ) -> Float[Tensor, "n c h w"]:
        # Half precision has fewer steps than a byte.
        with torch.autocast(images.device.type, enabled=False):
            unit = to_unit(images) if draws is None else self._changed(images, draws)
            return dihedral(normalise(unit) if self.normalise else unit, symmetry)

    def _changed(
        self, images: UInt8[Tensor, "n c h w"], draws: Float[Tensor, "n 12"]
    ) -> Float[Tensor, "n c h w"]:
        augment, stain, zoom = draws.split(list(NOISE_SIZES.values()), dim=1)
        if self.flip:
            images = flip(images, augment[:, :2])
        if self.rotate and self.rotate != "any":
            images = rotate(images, augment[:, 2])
        unit = to_unit(images)
        if self.rotate == "any" or self.zoom:
            angle = 2 * math.pi * augment[:, 2] * (self.rotate == "any")
            unit = resample(unit, angle, 1 + self.zoom * (2 * zoom[:, 0] - 1))
        if self.stain:
            unit = jitter_stains(unit, self.stain, stain)
        return jitter(unit, self.colour, augment[:, 3:]) if self.colour else unit


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
    """Each image dihedral by as many right angles as its draw has quarters. Images must be square."""
    (quarter,) = _each_image((draws * 4).floor().unsqueeze(1))
    rotated = images
    for turns in (1, 2, 3):
        rotated = torch.where(quarter == turns, torch.rot90(images, turns, (-2, -1)), rotated)
    return rotated


def dihedral(images: Float[Tensor, "n c h w"], symmetry: int) -> Float[Tensor, "n c h w"]:
    """One of the square's eight symmetries, 0 none: right angles, from 4 on after a mirror."""
    if symmetry >= 4:
        images = images.flip(-1)
    return torch.rot90(images, symmetry % 4, (-2, -1)) if symmetry % 4 else images


def resample(
    images: Float[Tensor, "n c h w"], angle: Float[Tensor, " n"], scale: Float[Tensor, " n"]
) -> Float[Tensor, "n c h w"]:
    """Each image dihedral by its angle (radians, counter-clockwise) and magnified about its centre.

    Between pixels bilinear; beyond the edge the image goes on as its mirror. Must be square.
    """
    cosine, sine, none = angle.cos() / scale, angle.sin() / scale, torch.zeros_like(angle)
    rows = torch.stack([cosine, -sine, none, sine, cosine, none], dim=1)
    grid = F.affine_grid(rows.reshape(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


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
