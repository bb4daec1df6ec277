"""What a cytologist looks at, in numbers: 38 measures of the cell in an image's centre.

Units: areas in per cent of the image, lengths in per cent of its side, densities in natural-log
units of absorbed light (OD, see `segmentation`). None is ever nan: where no nucleus is found a disc
of typical size stands for it, and `segmented` is 0.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from skimage.feature import graycomatrix, graycoprops
from skimage.measure import perimeter, regionprops

from lymphoml.features.segmentation import Cell, segment

Array = np.ndarray
VERSION = 1  # of the measures: another number, another place in the cache
FEWEST = 12  # pixels that colours are taken of
MARGIN = 2  # pixels about the cell that its outline is measured with

# How chromatin is clumped: grey levels, their neighbours, and grain of three sizes.
GRAIN = {"fine": 0.7 / 224, "medium": 1.4 / 224, "coarse": 2.8 / 224}  # radii, of the side
LEVELS = 16  # grey levels of the co-occurrence matrix
DEPTH = 3.0  # OD of the highest of them
NEIGHBOURS = {"near": 1 / 224, "far": 4 / 224}  # of the side
ANGLES = (0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)

TEXTURES = (
    "skewness",  # of the density
    "range",  # of the density, 10th to 90th percentile
    "entropy",  # of its grey levels, bits
    *(f"contrast_{distance}" for distance in NEIGHBOURS),  # mean squared difference, grey levels
    *(f"correlation_{distance}" for distance in NEIGHBOURS),
    "homogeneity",  # 1 where all neighbours are alike
    *(f"granularity_{size}" for size in GRAIN),  # standard deviation of a band of detail, OD
)

SHAPES = ("area", "eccentricity", "solidity", "circularity")
CHANNELS = ("red", "green", "blue")
NAMES = (
    "segmented",  # 1 where a nucleus was found, else 0
    *(f"nucleus_{shape}" for shape in SHAPES),
    *(f"cell_{shape}" for shape in SHAPES),
    "nucleus_perimeter",
    "nucleus_roughness",  # spread of the outline's distance from the centroid, over its mean
    "nucleus_share",  # of the cell's area, 0 to 1; nucleus-to-cytoplasm ratio r is r / (1 + r)
    "nucleus_offset",  # of the nucleus' centroid from the cell's, in radii of a disc of its area
    "nucleus_edge",  # slope of green density across the nucleus' border, OD per % of the side
    *(f"nucleus_{channel}" for channel in CHANNELS),  # mean OD
    *(f"nucleus_{channel}_spread" for channel in CHANNELS),  # its standard deviation
    *(f"cytoplasm_{channel}" for channel in CHANNELS),
    *(f"cytoplasm_{channel}_spread" for channel in CHANNELS),
    "cytoplasm_granularity",  # of green density, as chromatin_granularity_fine
    *(f"chromatin_{texture}" for texture in TEXTURES),
)


class Shape(NamedTuple):
    area: float  # pixels
    eccentricity: float  # of the ellipse with the same second moments: 0 a disc, towards 1 a line
    solidity: float  # share of the convex hull
    circularity: float  # 4 pi area / perimeter^2: 1 for a disc
    perimeter: float  # pixels
    centroid: tuple[float, float]


def measure(image: Array) -> Array:
    """float32 (38), in the order of NAMES, of a uint8 image (h, w, 3) with a cell in its centre."""
    cell, side = segment(image).closely(MARGIN), min(image.shape[:2])
    nucleus, whole = _shape(cell.nucleus), _shape(cell.whole)
    unit = side / 100
    radius = np.sqrt(whole.area / np.pi)
    green = cell.density[..., 1]
    rim = _rim(cell)
    values = [
        float(cell.found),
        nucleus.area / unit**2 / 100, *nucleus[1:4],
        whole.area / unit**2 / 100, *whole[1:4],
        nucleus.perimeter / unit,
        _roughness(cell.nucleus, nucleus.centroid),
        nucleus.area / whole.area,
        np.hypot(*np.subtract(nucleus.centroid, whole.centroid)) / radius,
        _edge(green, cell.nucleus) * unit,
        *_colours(cell.density[cell.nucleus]),
        *_colours(cell.density[rim]),
        granularity(green, rim, side)[0],
        *textures(green, cell.nucleus, side),
    ]  # fmt: skip
    return np.asarray(values, np.float32)


def _shape(mask: Array) -> Shape:
    (region,) = regionprops(mask.astype(np.uint8))
    outline = max(perimeter(mask), 1.0)
    return Shape(
        float(region.area), float(region.eccentricity), float(region.solidity),
        float(min(4 * np.pi * region.area / outline**2, 2.0)), float(outline), region.centroid,
    )  # fmt: skip


def _rim(cell: Cell) -> Array:
    """The cytoplasm; where there is hardly any, the outermost pixels of the nucleus."""
    if cell.cytoplasm.sum() >= FEWEST:
        return cell.cytoplasm
    return cell.nucleus & ~ndimage.binary_erosion(cell.nucleus, iterations=2)


def _roughness(mask: Array, centroid: tuple[float, float]) -> float:
    rows, columns = np.nonzero(mask & ~ndimage.binary_erosion(mask))
    distances = np.hypot(rows - centroid[0], columns - centroid[1])
    return distances.std() / max(distances.mean(), 1.0)


def _edge(green: Array, mask: Array) -> float:
    border = ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(mask)
    slopes = np.hypot(ndimage.sobel(green, 0), ndimage.sobel(green, 1)) / 8
    return slopes[border].mean()


def _colours(pixels: Array) -> list[float]:
    return [*pixels.mean(axis=0), *pixels.std(axis=0)]


def textures(density: Array, mask: Array, side: int) -> list[float]:
    """In the order of TEXTURES: of the density (h, w) within a mask that is not empty."""
    place = ndimage.find_objects(mask.astype(np.uint8))[0]
    density, mask = density[place], mask[place]
    inner = _inner(mask, 2 * side / 224)
    values = density[inner]
    low, high = np.quantile(values, [0.1, 0.9])
    levels = np.clip(density / DEPTH * LEVELS, 0, LEVELS - 1).astype(np.uint8)
    shares = np.bincount(levels[inner], minlength=LEVELS) / inner.sum()
    shares = shares[shares > 0]
    contrast, correlation, homogeneity = _neighbours(levels, inner, side)
    return [
        _skewness(values), high - low, -(shares * np.log2(shares)).sum(), *contrast, *correlation,
        homogeneity[0], *granularity(density, inner, side),
    ]  # fmt: skip


def granularity(density: Array, mask: Array, side: int) -> list[float]:
    """What each blur of GRAIN within the mask leaves of the one before, as a spread."""
    spreads, before = [], density
    weight = mask.astype(np.float32)
    for radius in GRAIN.values():
        blurred = ndimage.gaussian_filter(density * weight, radius * side)
        cover = ndimage.gaussian_filter(weight, radius * side)
        after = np.where(mask, blurred / np.maximum(cover, 1e-6), 0)
        spreads.append(float((before - after)[mask].std()))
        before = after
    return spreads


def _inner(mask: Array, margin: float) -> Array:
    """Without its border, which is half outside; as it is where hardly anything would be left."""
    eroded = ndimage.binary_erosion(mask, iterations=int(margin)) if margin >= 1 else mask
    return eroded if eroded.sum() >= mask.sum() / 4 else mask


def _skewness(values: Array) -> float:
    centred = values - values.mean()
    spread = centred.std()
    return float((centred**3).mean() / spread**3) if spread > 1e-6 else 0.0


def _neighbours(levels: Array, mask: Array, side: int) -> tuple[Array, Array, Array]:
    """Contrast, correlation and homogeneity at each distance, over all angles (Haralick 1973)."""
    # Level 0 is what lies outside; pairs that hold it do not count.
    marked = np.where(mask, levels + 1, 0).astype(np.uint8)
    distances = [max(1, round(distance * side)) for distance in NEIGHBOURS.values()]
    pairs = graycomatrix(marked, distances, ANGLES, LEVELS + 1, symmetric=True)
    pairs = pairs[1:, 1:].sum(axis=3, keepdims=True).astype(float)
    pairs /= np.maximum(pairs.sum(axis=(0, 1), keepdims=True), 1)
    return tuple(
        graycoprops(pairs, name)[:, 0] for name in ("contrast", "correlation", "homogeneity")
    )
