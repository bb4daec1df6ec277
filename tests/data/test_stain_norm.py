"""Stain normalisation against the papers' equations."""

import numpy as np
import pytest

from lymphoml.data import stain_normalization
from lymphoml.data.stain_normalization import NORMALIZERS, macenko, reinhard
from lymphoml.data.synthetic.drawing import draw_slide, draw_smear


def smear(seed=0, count=6):
    """Pixels of one drawn slide, (k, 3)."""
    rng = np.random.default_rng(seed)
    slide = draw_slide(rng)
    images = [draw_smear(96, bool(number % 2), slide, rng) for number in range(count)]
    return np.concatenate(images).reshape(-1, 3)


def lalphabeta(pixels):
    """Reinhard et al. 2001, equations 2 to 5, a pixel's three numbers at a time."""
    red, green, blue = np.maximum(pixels, 1).T / 255
    long = np.log10(0.3811 * red + 0.5783 * green + 0.0402 * blue)
    middle = np.log10(0.1967 * red + 0.7244 * green + 0.0782 * blue)
    short = np.log10(0.0241 * red + 0.1288 * green + 0.8444 * blue)
    return np.stack([
        (long + middle + short) / 3**0.5,
        (long + middle - 2 * short) / 6**0.5,
        (long - middle) / 2**0.5,
    ])  # fmt: skip


def test_reinhard_gives_every_slide_the_targets_mean_and_spread():
    for seed in (1, 2):
        pixels = smear(seed)
        moved = lalphabeta(reinhard(pixels)(pixels))
        before = lalphabeta(pixels)
        apart = np.abs(before.mean(1) - stain_normalization.TARGET_MEAN)[0]
        assert apart > 0.004  # or nothing is shown
        np.testing.assert_allclose(moved.mean(1), stain_normalization.TARGET_MEAN, atol=0.004)
        np.testing.assert_allclose(moved.std(1), stain_normalization.TARGET_STD, rtol=0.12)


def test_macenko_is_the_papers_steps():
    """Transcribed: SVD of the stained densities, angles, extremes, least squares."""
    pixels = smear(3)
    density = -np.log(np.maximum(pixels, 1) / 255.0)
    stained = density[np.all(density > 0.15, axis=1)]
    _, _, rows = np.linalg.svd(stained - stained.mean(0), full_matrices=False)
    first, second = (row * np.sign(np.mean(stained @ row)) for row in rows[:2])
    angles = np.degrees(np.arctan2(stained @ second, stained @ first))
    stains = [np.cos(np.radians(angle)) * first + np.sin(np.radians(angle)) * second
              for angle in np.percentile(angles, [1, 99])]  # fmt: skip
    stains = np.stack(sorted(stains, key=lambda stain: stain[2]), axis=1)
    amounts, *_ = np.linalg.lstsq(stains, density.T, rcond=None)
    amounts *= (stain_normalization.TARGET_MOST / np.percentile(amounts, 99, axis=1))[:, None]
    expected = 255 * np.exp(-(stain_normalization.TARGET_STAINS.T @ amounts)).T.clip(0, 255)
    shown = macenko(pixels)(pixels)
    assert np.abs(shown - np.clip(expected, 0, 255)).max() <= 1


@pytest.mark.parametrize("name", NORMALIZERS)
def test_pixels_alone_decide_and_images_keep_their_shape(name):
    pixels = smear(4)
    normalise = NORMALIZERS[name](pixels)
    image = pixels[: 96 * 96].reshape(96, 96, 3)
    assert normalise(image).shape == image.shape
    assert normalise(image).dtype == np.uint8
    assert np.array_equal(normalise(image)[5:9], normalise(image[5:9]))
    assert not np.array_equal(normalise(image), NORMALIZERS[name](smear(5))(image))
