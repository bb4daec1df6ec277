"""Transforms: exact where nothing is random, within bounds where noise decides."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skimage.color import hed2rgb, rgb2hed
from skimage.color.colorconv import rgb_from_hed

from lymphoml.data import transforms
from lymphoml.data.datamodule import PatientBags
from lymphoml.data.feature_store import FeatureScaler
from lymphoml.data.settings import AugmentConfig
from lymphoml.data.transforms import (
    DARKEST,
    NOISE_SIZE,
    RGB_FROM_HED,
    BatchTransform,
    jitter_stains,
)

OFF = {"flip": False, "rotate": False, "scale": 0.0, "color_jitter": 0.0, "stain_jitter": 0.0}
ON = {"flip": True, "rotate": True, "scale": 0.2, "color_jitter": 0.2, "stain_jitter": 0.1}
UNIT = -np.log(DARKEST)  # of scikit-image's concentrations, in natural optical density


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def pictures(count, side=5, seed=0):
    return (uniform(count, 3, side, side, seed=seed) * 256).to(torch.uint8)


def only(**augment):
    return BatchTransform(False, AugmentConfig(**OFF | augment))


def test_unit_is_division_by_255_and_normalization_is_imagenets():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    torch.testing.assert_close(transforms.to_unit(images), images.float() / 255)
    out = transforms.normalize(torch.full((1, 3, 2, 2), 0.5))
    expected = [(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225]
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor(expected))


def test_flips_and_rotations_reach_all_eight_symmetries_and_nothing_else():
    image = pictures(1)[0]
    many = image.repeat(400, 1, 1, 1)
    noise = uniform(400, 3, seed=1)
    out = transforms.rotate(transforms.flip(many, noise[:, :2]), noise[:, 2])
    symmetries = [
        torch.rot90(side, turns, (-2, -1)) for side in (image, image.flip(-1)) for turns in range(4)
    ]
    fixed = [transforms.dihedral(image[None].float(), symmetry)[0] for symmetry in range(8)]
    assert torch.equal(torch.stack(fixed), torch.stack(symmetries).float())
    matches = torch.stack([(out == one).flatten(1).all(1) for one in symmetries])
    assert (matches.sum(0) == 1).all()
    assert (matches.sum(1) > 20).all()


def test_color_jitter_stays_in_the_unit_range_and_within_its_bound():
    out = transforms.jitter_color(torch.full((200, 3, 4, 4), 0.5), 0.2, uniform(200, 2))
    level = out[:, 0, 0, 0].numpy()
    assert 0.4 <= level.min() < 0.42
    assert 0.58 < level.max() <= 0.6
    assert len(np.unique(level)) > 150
    bright = transforms.jitter_color(uniform(50, 3, 4, 4), 0.9, uniform(50, 2, seed=1))
    assert bright.min() >= 0
    assert bright.max() <= 1


def test_a_chunk_is_transformed_as_in_the_whole_batch_autocast_or_not():
    images, noise = pictures(9), uniform(9, NOISE_SIZE)
    for rotate in (True, "any"):
        transform = BatchTransform(True, AugmentConfig(**ON | {"rotate": rotate}))
        whole = transform(images, noise)
        parts = [transform(images[part], noise[part]) for part in (slice(0, 4), slice(4, 9))]
        assert torch.equal(torch.cat(parts), whole)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(transform(images, noise), whole)
        assert whole.dtype == torch.float32


def test_without_noise_nothing_is_random():
    images = pictures(4)
    plain, transform = transforms.to_unit(images), BatchTransform(True, AugmentConfig(**ON))
    assert torch.equal(transform(images), transforms.normalize(plain))
    assert torch.equal(only()(images, uniform(4, NOISE_SIZE)), plain)
    assert torch.equal(BatchTransform(False)(images), plain)


@pytest.mark.parametrize("key", ON)
def test_each_option_alone_changes_images_by_their_noise(key):
    images, transform = pictures(8), only(**{key: ON[key]})
    assert transform.random
    changed = transform(images, uniform(8, NOISE_SIZE))
    assert not torch.equal(changed, transform(images))
    assert not torch.equal(changed, transform(images, uniform(8, NOISE_SIZE, seed=1)))
    assert not only().random


def test_any_angle_rotates_by_its_noise_about_the_centre():
    disc = torch.hypot(*torch.meshgrid(*[torch.arange(-9.5, 10)] * 2, indexing="ij")) < 6
    images = (disc * 200).to(torch.uint8).repeat(3, 3, 1, 1)
    images[:, :, :10] //= 2  # the upper half darker
    noise = torch.zeros(3, NOISE_SIZE)
    noise[1:, 2] = torch.tensor([1 / 4, 1 / 8])
    out, expected = only(rotate="any")(images, noise), only()(images)
    torch.testing.assert_close(out[0], expected[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(out[1], torch.rot90(expected[1], 1, (-2, -1)), atol=1e-4, rtol=0)
    corner = out[2, 0].rot90(-1)
    assert out[2, 0, 6, 6] < 0.5 < out[2, 0, 13, 13]
    assert abs(corner[6, 6] - corner[13, 13]) < 0.1  # half way between two right angles


def test_scale_magnifies_about_the_centre_by_its_bound():
    ramp = (torch.linspace(0, 1, 41).expand(2, 3, 41, 41) * 255).to(torch.uint8)
    noise = torch.zeros(2, NOISE_SIZE)
    noise[1, -1] = 1
    out = only(scale=0.25)(ramp, noise)
    assert out[0, 0, 20, 30] == pytest.approx(0.5 + 0.25 / 0.75, abs=5e-3)
    assert out[1, 0, 20, 30] == pytest.approx(0.5 + 0.25 / 1.25, abs=5e-3)


def test_test_time_views_are_symmetries_of_the_evaluation_transform():
    data = SimpleNamespace(normalize_images=True, augment=AugmentConfig(**ON), eval_tta=8)
    bags = PatientBags(data, None, None, [], None, seed=0, fold=0)
    images = pictures(3)
    plain = BatchTransform(True)(images)
    for symmetry, view in enumerate(bags.tta_views):
        assert torch.equal(view(images), transforms.dihedral(plain, symmetry))
    assert len(bags.tta_views) == 8
    assert torch.equal(bags.transform(images), plain)
    scaler = FeatureScaler(["a"], [2.0], [4.0], [])
    bags = PatientBags(data, None, None, [], None, seed=0, fold=0, features=scaler)
    assert bags.tta_views == [scaler]
    assert bags.transform(torch.tensor([[10.0]])).item() == 2


# Stain jitter against scikit-image's colour deconvolution


def stained(count, seed=0):
    """Images that three stains make, so that no concentration is negative; (n 3 h w)."""
    amounts = np.random.default_rng(seed).uniform(0.02, 0.5, (count, 6, 7, 3))
    return torch.from_numpy(hed2rgb(amounts / UNIT)).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("amount", [0.05, 0.2])
def test_concentrations_are_scaled_and_shifted_as_scikit_image_has_them(amount):
    assert np.array_equal(RGB_FROM_HED, rgb_from_hed)
    images, noise = stained(5), uniform(5, 6)
    scale, shift = (amount * (2 * noise.double().numpy() - 1)).reshape(5, 2, 1, 1, 3).swapaxes(0, 1)
    hed = rgb2hed(images.permute(0, 2, 3, 1).double().numpy())
    expected = hed2rgb(hed * (1 + scale) + shift / UNIT)
    out = jitter_stains(images, amount, noise).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(out, expected, atol=1e-4)
    assert np.abs(out - images.permute(0, 2, 3, 1).numpy()).max() > 0.02
    last = images.contiguous(memory_format=torch.channels_last)
    out = jitter_stains(last, amount, noise)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_without_jitter_every_colour_stays_black_and_white_too():
    levels = torch.linspace(0, 1, 6)
    colours = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 6, 36)
    out = jitter_stains(colours, 0.0, uniform(1, 6))
    torch.testing.assert_close(out, colours, atol=1e-6, rtol=0)
    strongest = jitter_stains(colours, 0.99, uniform(1, 6))
    assert 0 <= strongest.min() <= strongest.max() <= 1  # which NaN is not
