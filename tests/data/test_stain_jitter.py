"""Stain jitter against scikit-image's colour deconvolution."""

import numpy as np
import pytest
import torch
from skimage.color import hed2rgb, rgb2hed
from skimage.color.colorconv import rgb_from_hed

from lymphoml.data.transforms import DARKEST, RGB_FROM_HED, jitter_stains

UNIT = -np.log(DARKEST)  # of scikit-image's concentrations, in natural optical density


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def stained(count, seed=0):
    """Images that three stains make, so that no concentration is negative; (n 3 h w)."""
    amounts = np.random.default_rng(seed).uniform(0.02, 0.5, (count, 6, 7, 3))
    return torch.from_numpy(hed2rgb(amounts / UNIT)).permute(0, 3, 1, 2).float()


def test_the_vectors_are_scikit_images():
    assert np.array_equal(RGB_FROM_HED, rgb_from_hed)


@pytest.mark.parametrize("amount", [0.05, 0.2])
def test_concentrations_are_scaled_and_shifted_as_scikit_image_has_them(amount):
    images, draws = stained(5), drawn(5, 6)
    scale, shift = (amount * (2 * draws.double().numpy() - 1)).reshape(5, 2, 1, 1, 3).swapaxes(0, 1)
    hed = rgb2hed(images.permute(0, 2, 3, 1).double().numpy())
    expected = hed2rgb(hed * (1 + scale) + shift / UNIT)
    out = jitter_stains(images, amount, draws).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(out, expected, atol=1e-4)
    assert np.abs(out - images.permute(0, 2, 3, 1).numpy()).max() > 0.02


def test_without_jitter_every_colour_stays_black_and_white_too():
    levels = torch.linspace(0, 1, 6)
    colours = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 6, 36)
    out = jitter_stains(colours, 0.0, drawn(1, 6))
    torch.testing.assert_close(out, colours, atol=1e-6, rtol=0)


def test_each_draw_changes_its_own_stain():
    images = stained(1)
    plain = rgb2hed(images[0].permute(1, 2, 0).numpy()) * UNIT
    for number in range(6):
        draws = torch.full((1, 6), 0.5)
        draws[0, number] = 1.0
        out = jitter_stains(images, 0.01, draws)[0].permute(1, 2, 0).numpy()
        changed = rgb2hed(out) * UNIT - plain
        stain = number % 3
        expected = 0.01 * plain[..., stain] if number < 3 else np.full((6, 7), 0.01)
        np.testing.assert_allclose(changed[..., stain], expected, atol=1e-4)
        others = np.delete(changed, stain, axis=-1)
        np.testing.assert_allclose(others, 0, atol=1e-4)


def test_the_darkest_and_the_strongest_stay_finite_and_in_the_unit_range():
    images = torch.cat([torch.zeros(50, 3, 2, 2), torch.ones(50, 3, 2, 2), drawn(50, 3, 2, 2)])
    out = jitter_stains(images, 0.99, drawn(150, 6))
    assert torch.isfinite(out).all()
    assert out.min() >= 0
    assert out.max() <= 1


def test_the_memory_layout_is_kept():
    images = stained(3).contiguous(memory_format=torch.channels_last)
    out = jitter_stains(images, 0.1, drawn(3, 6))
    assert out.is_contiguous(memory_format=torch.channels_last)
