"""How chromatin is clumped: grey levels, their neighbours, and grain of three sizes."""

import numpy as np
from scipy import ndimage
from skimage.feature import graycomatrix, graycoprops

Array = np.ndarray

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
        _skewness(values),
        high - low,
        -(shares * np.log2(shares)).sum(),
        *contrast,
        *correlation,
        homogeneity[0],
        *granularity(density, inner, side),
    ]


def granularity(density: Array, mask: Array, side: int) -> list[float]:
    """What each blur of GRAIN leaves of the one before, as a spread within the mask.

    Blurs are of the mask's own pixels alone, so that its border is no grain.
    """
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
