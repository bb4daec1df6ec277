"""The nucleus and the cytoplasm of the cell in an image's centre, separated by their stain.

Each stain takes its share of the light (Beer-Lambert), so colours are compared as optical
densities: OD = -ln(light / light through clear plasma), for red, green and blue. In smears stained
by May-Grünwald and Giemsa a nucleus is dense in green, above 1, twice the density of red cells.
Cytoplasm takes red light but hardly any blue. Of red cells the blue density is half of the green
one. Lengths are fractions of the image's side.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import disk

Array = np.ndarray

DARK = (0.75, 1.3)  # where the threshold on a nucleus' green density may lie
STAINED = 0.09  # least green density of cytoplasm
# Least (OD red - 1.5 OD blue) / OD green of cytoplasm: haemoglobin takes blue light, so red cells
# have 0 (at most 0.1 where the stain makes them purple), pale cytoplasm 0.3, dark cytoplasm 0.4.
BLUE = 0.19
FIELD = 0.72  # of the side: the window about the centre that is searched
SMOOTHING = 1 / 224  # of the side
THREAD = 2.5 / 224  # radius below which what hangs on a nucleus or a cell is no part of it
REACH = 42 / 224  # cytoplasm lies no farther from its nucleus
CENTRAL = 40 / 224  # the nucleus begins no farther from the image's centre
SIZES = (0.008, 0.3)  # a nucleus' share of the image
TYPICAL = 28 / 224  # radius of the disc that stands for a nucleus that is not found


class Cell(NamedTuple):
    """Windows about the centre of an image, all of the same height and width."""

    density: Array  # float32 (h, w, 3), OD
    nucleus: Array  # bool (h, w), one piece
    cytoplasm: Array  # bool (h, w), never overlaps the nucleus; may be empty
    found: bool  # False: no nucleus lies near the centre, and a disc stands for it

    @property
    def whole(self) -> Array:
        return self.nucleus | self.cytoplasm

    def closely(self, margin: int) -> "Cell":
        """The smallest window that leaves so many pixels about the cell, where there are any."""
        place = ndimage.find_objects(self.whole.astype(np.uint8))[0]
        near = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in place)
        return Cell(self.density[near], self.nucleus[near], self.cytoplasm[near], self.found)


def segment(image: Array) -> Cell:
    """The central cell of a uint8 image (h, w, 3)."""
    side = min(image.shape[:2])
    density = optical_density(image, FIELD)
    smooth = ndimage.gaussian_filter(density, (SMOOTHING * side, SMOOTHING * side, 0))
    threshold = threshold_otsu(smooth[..., 1]) if np.ptp(smooth[..., 1]) else DARK[0]
    threshold = float(np.clip(threshold, *DARK))
    dark = _opened(smooth[..., 1] > threshold, THREAD * side)
    nuclei, count = ndimage.label(dark)
    chosen = _central(nuclei, count, side)
    if chosen is None:
        return Cell(density, _from_centre(dark.shape) <= TYPICAL * side, dark & False, False)
    nucleus = _filled(nuclei == chosen)
    others = dark & ~nucleus
    red, green, blue = np.moveaxis(smooth, -1, 0)
    stained = (green > STAINED) & (red - 1.5 * blue > BLUE * green)
    away = ndimage.distance_transform_edt(~nucleus)
    near = away <= REACH * side
    if others.any():
        near &= away <= ndimage.distance_transform_edt(~others)
    cell = _opened(stained & near & ~others | nucleus, THREAD * side) | nucleus
    pieces, _ = ndimage.label(cell)
    cell = _filled(pieces == pieces[nucleus][0])
    return Cell(density, nucleus, cell & ~nucleus & ~others, found=True)


def optical_density(image: Array, field: float = 1.0) -> Array:
    """Return float32 (h, w, 3), against the brightest tenth, of the central share `field`."""
    light = image.astype(np.float32)
    green = light[..., 1]
    clear = light[green >= np.quantile(green, 0.9)].mean(axis=0)
    ends = (round((1 - field) / 2 * length) for length in image.shape[:2])
    rows, columns = (slice(n, size - n) for n, size in zip(ends, image.shape[:2], strict=True))
    logarithms = np.log(np.maximum(np.arange(256, dtype=np.float32), 1))
    return np.maximum(np.log(np.maximum(clear, 1)) - logarithms[image[rows, columns]], 0)


def _opened(mask: Array, radius: float) -> Array:
    """Without what is thinner than the radius in pixels; as it is where that is less than one."""
    if int(radius) < 1:
        return mask
    return ndimage.binary_opening(mask, disk(int(radius)))


def _filled(mask: Array) -> Array:
    """Return one piece without its holes, looked for within its bounding box only."""
    (place,) = ndimage.find_objects(mask.astype(np.uint8))
    filled = mask.copy()
    filled[place] = ndimage.binary_fill_holes(mask[place])
    return filled


def _central(labels: Array, count: int, side: int) -> int | None:
    """The dark piece nearest the centre of those of a nucleus' size; None where none is near."""
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:] / side**2
    inside = [label for label in range(1, count + 1) if SIZES[0] <= sizes[label - 1] <= SIZES[1]]
    if not inside:
        return None
    places, away = ndimage.find_objects(labels), _from_centre(labels.shape)
    distances = [
        away[places[label - 1]][labels[places[label - 1]] == label].min() for label in inside
    ]
    # Pieces that both reach the centre: the larger one.
    nearest = min(zip(np.maximum(distances, 0.02 * side), -sizes[np.array(inside) - 1], inside,
                      strict=True))  # fmt: skip
    return nearest[2] if nearest[0] <= CENTRAL * side else None


def _from_centre(shape: tuple[int, ...]) -> Array:
    rows, columns = (np.arange(length) - (length - 1) / 2 for length in shape)
    return np.hypot(rows[:, None], columns)
