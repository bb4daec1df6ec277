"""Stain normalisation: a patient's images as if stained like the smears of `synthetic/drawing.py`.

Statistics are of all of a patient's images: those of one image would remove how large and dark its
cell is. The target is fixed, so that nothing passes between patients and folds.
"""

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Normalizer = Callable[[Array], Array]  # uint8 (..., 3) to the like

VERSION = 1  # of what this file makes of an image
EVERY = 4  # of a patient's pixels, each way, every so many are looked at
MAX_PIXELS_FITTED = 1_000_000  # or fewer, spread over all images

# Reinhard et al. 2001, equations 2 to 6: light to cones, and their logarithms' decorrelated axes.
LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
AXES = np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]]) / np.sqrt([[3], [6], [2]])
TARGET_MEAN = np.array([-0.245, 0.0109, 0.0064])
TARGET_STD = np.array([0.2487, 0.0598, 0.0025])

# Macenko et al. 2009: pixels of less optical density are no stain; the robust extremes, in percent.
STAINED = 0.15
EXTREMES = (1, 99)
FEWEST = 100  # stained pixels
# Of the drawn smears: optical density of a unit of nuclear and of red stain; 99th percentiles.
TARGET_STAINS = np.array([[0.599, 0.7411, 0.3034], [0.2741, 0.7144, 0.6438]])
TARGET_MOST = np.array([2.7758, 0.6137])


def reinhard(pixels: Array) -> Normalizer:
    """Match mean and std of `pixels`, uint8 (k, 3), in lαβ. Raises ValueError for a constant."""
    opponent = _to_opponent(pixels)
    mean, std = opponent.mean(axis=0), opponent.std(axis=0)
    if not (std > 1e-4).all():
        raise ValueError("its images show a single colour")

    def normalize(image: Array) -> Array:
        moved = (_to_opponent(image) - mean) * (TARGET_STD / std) + TARGET_MEAN
        light = 10 ** (moved @ np.linalg.inv(AXES).T) @ np.linalg.inv(LMS).T
        return _to_bytes(light)

    return normalize


def macenko(pixels: Array) -> Normalizer:
    """Two stains found in uint8 (k, 3), shown as the target's. Raises ValueError for too little."""
    density = _density(pixels)
    stains = find_stains(density)
    amounts = np.percentile(density @ np.linalg.pinv(stains), EXTREMES[1], axis=0)
    if not (amounts > 1e-3).all():
        raise ValueError("its images show less than two stains")
    shown = np.linalg.pinv(stains) @ ((TARGET_MOST / amounts)[:, None] * TARGET_STAINS)
    return lambda image: _to_bytes(np.exp(-(_density(image) @ shown)))


NORMALIZERS: dict[str, Callable[[Array], Normalizer]] = {"reinhard": reinhard, "macenko": macenko}


def find_stains(density: Array) -> Array:
    """The directions between which the densities (k, 3) lie; (2, 3) of length 1, nuclei first."""
    stained = density[(density > STAINED).all(axis=1)]
    if len(stained) < FEWEST:
        raise ValueError("its images show too few stained pixels")
    _, vectors = np.linalg.eigh(np.cov(stained.T))
    plane = vectors[:, :0:-1]  # the largest first
    plane = plane * np.where((stained @ plane).mean(axis=0) < 0, -1, 1)
    angles = np.arctan2(*(stained @ plane).T[::-1])
    extremes = np.percentile(angles, EXTREMES)
    stains = np.stack([np.cos(extremes), np.sin(extremes)], axis=1) @ plane.T
    return stains[np.argsort(stains[:, 2])]


def _density(image: Array) -> Array:
    return -np.log(np.maximum(image, 1) / 255.0)


def _to_opponent(image: Array) -> Array:
    return np.log10(np.maximum(image, 1) / 255.0 @ LMS.T) @ AXES.T


def _to_bytes(light: Array) -> Array:
    return np.rint(np.clip(light, 0, 1) * 255).astype(np.uint8)
