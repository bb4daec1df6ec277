"""From stored bytes to the encoder's input, any part of a batch at a time and on its device."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lymphoml.core.types import Bytes, PerImage, Pixels
from lymphoml.data.settings import IMAGENET, AugmentConfig, Normalization

# Random numbers an image needs, by the key of their generator, so that a new option leaves those of
# the others as they are: two flips, a rotation, contrast and brightness; scale and shift of three
# stains; magnification.
NOISE_SIZES = {"augment": 5, "stain": 6, "zoom": 1}
NOISE_SIZE = sum(NOISE_SIZES.values())

# Optical density of one unit of haematoxylin, eosin and DAB in red, green and blue (Ruifrok and
# Johnston 2001), as in scikit-image. Blood smears have neither haematoxylin nor DAB: here the three
# are a basis of colours (purple nuclei, pink red cells, brown remainder), not amounts of a dye.
RGB_FROM_HED = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
DARKEST = 1e-6  # of full light, so that black has a finite density


class BatchTransform:
    """Scale bytes to the encoder's input; augment by noise (n NOISE_SIZE), uniform in [0, 1)."""

    def __init__(self, normalize: Normalization | None, augment: AugmentConfig | None = None):
        self.normalize, self.augment = normalize, augment

    @property
    def random(self) -> bool:
        return self.augment is not None and any(self.augment.to_dict().values())

    def __call__(
        self, images: Bytes, noise: Float[Tensor, "n 12"] | None = None, symmetry: int = 0
    ) -> Pixels:
        """Return images in [0, 1], or normalized; then `dihedral` by `symmetry`."""
        # Half precision has fewer steps than a byte.
        with torch.autocast(images.device.type, enabled=False):
            if noise is None or self.augment is None:
                unit = to_unit(images)
            else:
                unit = augmented(images, self.augment, noise)
            return dihedral(normalize(unit, self.normalize), symmetry)


def augmented(images: Bytes, augment: AugmentConfig, noise: Float[Tensor, "n 12"]) -> Pixels:
    """Return images in [0, 1], each changed by its own noise."""
    spatial, stain, zoom = noise.split(list(NOISE_SIZES.values()), dim=1)
    any_angle = augment.rotate == "any"
    if augment.flip:
        images = flip(images, spatial[:, :2])
    if augment.rotate and not any_angle:
        images = rotate(images, spatial[:, 2])
    unit = to_unit(images)
    if any_angle or augment.scale:
        angle = 2 * math.pi * spatial[:, 2] * any_angle
        unit = resample(unit, angle, 1 + augment.scale * (2 * zoom[:, 0] - 1))
    if augment.stain_jitter:
        unit = jitter_stains(unit, augment.stain_jitter, stain)
    if augment.color_jitter:
        unit = jitter_color(unit, augment.color_jitter, spatial[:, 3:])
    return unit


def to_unit(images: Bytes) -> Pixels:
    """Return intensities in [0, 1]: the paper's only transform."""
    return images.float().div_(255)


def normalize(images: Pixels, by: Normalization | None = True) -> Pixels:
    """Subtract each channel's mean and divide by its standard deviation; True: ImageNet's."""
    if not by:
        return images
    values = IMAGENET if by is True else by.to_dict()
    mean, std = (images.new_tensor(values[key])[:, None, None] for key in ("mean", "std"))
    return (images - mean) / std


def flip(images: Bytes, noise: Float[Tensor, "n 2"]) -> Bytes:
    """Mirror each image left to right, and top to bottom, where its noise is below a half."""
    for axis, mirrored in zip((-1, -2), _per_image(noise < 0.5), strict=True):
        images = torch.where(mirrored, images.flip(axis), images)
    return images


def rotate(images: Bytes, noise: PerImage) -> Bytes:
    """Rotate each square image by as many right angles as its noise has quarters."""
    (quarter,) = _per_image((noise * 4).floor().unsqueeze(1))
    rotated = images
    for turns in (1, 2, 3):
        rotated = torch.where(quarter == turns, torch.rot90(images, turns, (-2, -1)), rotated)
    return rotated


def dihedral(images: Pixels, symmetry: int) -> Pixels:
    """Apply one of the square's eight symmetries: 0 to 3 right angles, 4 to 7 after a mirror."""
    if symmetry >= 4:
        images = images.flip(-1)
    return torch.rot90(images, symmetry % 4, (-2, -1)) if symmetry % 4 else images


def resample(images: Pixels, angle: PerImage, scale: PerImage) -> Pixels:
    """Rotate square images by `angle` (radians, counter-clockwise) and magnify, bilinear."""
    cosine, sine, none = angle.cos() / scale, angle.sin() / scale, torch.zeros_like(angle)
    matrix = torch.stack([cosine, -sine, none, sine, cosine, none], dim=1)
    return move(images, matrix.reshape(-1, 2, 3))


def move(images: Pixels, places: Float[Tensor, "n 2 3"]) -> Pixels:
    """Resample images at these places, bilinear, with reflection beyond the edge."""
    grid = F.affine_grid(places, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def jitter_color(images: Pixels, amount: float, noise: Float[Tensor, "n 2"]) -> Pixels:
    """Scale contrast, then brightness, by 1 ± `amount`; clipped to [0, 1]."""
    contrast, brightness = _per_image(1 + amount * (2 * noise - 1))
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (((images - mean) * contrast + mean) * brightness).clamp(0, 1)


def jitter_stains(
    images: Float[Tensor, "n 3 h w"], amount: float, noise: Float[Tensor, "n 6"]
) -> Float[Tensor, "n 3 h w"]:
    """Scale each stain's concentration by 1 ± `amount`, then shift it by up to ± `amount`.

    Concentrations c solve c · RGB_FROM_HED = -ln(light). Negative ones are kept, where scikit-image
    drops them: with `amount` 0 every colour stays as it is. Clipped to [0, 1]. Tellez et al. 2018,
    "Whole-slide mitosis detection in H&E breast histology".
    """
    vectors = images.new_tensor(RGB_FROM_HED)
    scale, shift = (amount * (2 * noise - 1)).chunk(2, dim=1)
    # density · inverse · diag(1 + scale) · vectors, as the identity and what is added to it.
    changed = torch.linalg.inv(vectors) @ (scale.unsqueeze(-1) * vectors)
    light = images.permute(0, 2, 3, 1)
    density = -light.clamp(min=DARKEST).log()
    added = density.flatten(1, 2) @ changed + (shift @ vectors).unsqueeze(1)
    return (light * (-added).exp().view_as(light)).clamp(0, 1).permute(0, 3, 1, 2)


def _per_image(values: Tensor) -> tuple[Tensor, ...]:
    """Split (n k) into k tensors of shape (n 1 1 1)."""
    return values[:, :, None, None, None].unbind(1)
