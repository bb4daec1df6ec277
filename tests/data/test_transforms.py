import math

import numpy as np
import pytest
import torch

from lymphoml.data import transforms
from lymphoml.data.transforms import DRAWS, IDENTITY, BatchTransform

PLAIN = IDENTITY | {"normalize_images": False}
ALL = PLAIN | {"flip": True, "rotate": True, "zoom": 0.2, "colour": 0.2, "stain": 0.1}
ALL["normalize_images"] = True


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def pictures(count, side=5, seed=0):
    return (uniform(count, 3, side, side, seed=seed) * 256).to(torch.uint8)


def test_unit_is_division_by_255():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    torch.testing.assert_close(transforms.to_unit(images), images.float() / 255)


def test_normalise_is_imagenets():
    out = transforms.normalise(torch.full((1, 3, 2, 2), 0.5))
    expected = [(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225]
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor(expected))


def test_flips_and_turns_reach_all_eight_symmetries_and_nothing_else():
    image = pictures(1)[0]
    many = image.repeat(400, 1, 1, 1)
    draws = uniform(400, 3, seed=1)
    out = transforms.rotate(transforms.flip(many, draws[:, :2]), draws[:, 2])
    symmetries = [
        torch.rot90(side, turns, (-2, -1)) for side in (image, image.flip(-1)) for turns in range(4)
    ]
    matches = torch.stack([(out == one).flatten(1).all(1) for one in symmetries])
    assert (matches.sum(0) == 1).all()
    assert (matches.sum(1) > 20).all()


def test_jitter_stays_in_the_unit_range_and_keeps_its_bound():
    images = torch.full((200, 3, 4, 4), 0.5)
    out = transforms.jitter(images, 0.2, uniform(200, 2))
    level = out[:, 0, 0, 0].numpy()
    assert 0.4 <= level.min() < 0.42
    assert 0.58 < level.max() <= 0.6
    assert len(np.unique(level)) > 150
    bright = transforms.jitter(uniform(50, 3, 4, 4), 0.9, uniform(50, 2, seed=1))
    assert bright.min() >= 0
    assert bright.max() <= 1


def test_without_draws_only_what_is_the_same_for_all_is_done():
    images = pictures(4)
    expected = transforms.normalise(transforms.to_unit(images))
    assert torch.equal(BatchTransform(ALL)(images), expected)
    assert torch.equal(BatchTransform(PLAIN)(images, uniform(4, DRAWS)), transforms.to_unit(images))


@pytest.mark.parametrize("key", ["flip", "rotate", "zoom", "colour", "stain"])
def test_each_option_alone_changes_images_by_their_draws(key):
    images, view = pictures(8), BatchTransform(PLAIN | {key: ALL[key]})
    assert view.random
    changed = view(images, uniform(8, DRAWS))
    assert not torch.equal(changed, view(images))
    assert not torch.equal(changed, view(images, uniform(8, DRAWS, seed=1)))
    assert not BatchTransform(PLAIN).random


def test_a_part_of_a_batch_is_viewed_as_in_the_whole():
    images, draws, view = pictures(9), uniform(9, DRAWS), BatchTransform(ALL)
    parts = [view(images[part], draws[part]) for part in (slice(0, 4), slice(4, 9))]
    assert torch.equal(torch.cat(parts), view(images, draws))


def test_a_view_of_any_angle_turns_by_its_draw_and_keeps_the_centre():
    disc = torch.hypot(*torch.meshgrid(*[torch.arange(-9.5, 10)] * 2, indexing="ij")) < 6
    images = (disc * 200).to(torch.uint8).repeat(3, 3, 1, 1)
    images[:, :, :10] //= 2  # the upper half darker
    draws = torch.zeros(3, DRAWS)
    draws[1:, 2] = torch.tensor([1 / 4, 1 / 8])
    out = BatchTransform(PLAIN | {"rotate": "any"})(images, draws)
    expected = BatchTransform(PLAIN)(images)
    torch.testing.assert_close(out[0], expected[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(out[1], torch.rot90(expected[1], 1, (-2, -1)), atol=1e-4, rtol=0)
    corner = out[2, 0].rot90(-1)
    assert out[2, 0, 6, 6] < 0.5 < out[2, 0, 13, 13]
    assert abs(corner[6, 6] - corner[13, 13]) < 0.1  # half way between two right angles


def test_zoom_magnifies_about_the_centre_by_its_bound():
    ramp = torch.linspace(0, 1, 41).expand(2, 1, 41, 41)
    angle = torch.zeros(2)
    out = transforms.resample(ramp, angle, torch.tensor([1.25, 0.8]))
    assert out[0, 0, 20, 30] == pytest.approx(0.5 + 0.25 / 1.25, abs=1e-5)
    assert out[1, 0, 20, 30] == pytest.approx(0.5 + 0.25 / 0.8, abs=1e-5)
    sizes = BatchTransform(PLAIN | {"zoom": 0.25})
    draws = torch.zeros(2, DRAWS)
    draws[1, -1] = 1
    bytes_ = (ramp * 255).to(torch.uint8)
    assert sizes(bytes_, draws)[0, 0, 20, 30] == pytest.approx(0.5 + 0.25 / 0.75, abs=5e-3)
    assert sizes(bytes_, draws)[1, 0, 20, 30] == pytest.approx(0.5 + 0.25 / 1.25, abs=5e-3)


def test_symmetries_are_the_eight_of_the_square():
    image = pictures(1).float()
    found = [transforms.dihedral(image, symmetry) for symmetry in range(8)]
    assert torch.equal(found[0], image)
    assert all(torch.equal(found[turns], image.rot90(turns, (-2, -1))) for turns in range(4))
    assert len({tuple(each.flatten().tolist()) for each in found}) == 8
    # A group: a turn or a mirror of any of them is one of them.
    again = [each.rot90(1, (-2, -1)) for each in found] + [each.flip(-2) for each in found]
    assert all(any(torch.equal(one, each) for each in found) for one in again)


def test_evaluation_has_as_many_views_as_asked_for_and_the_first_is_the_plain_one():
    images = pictures(3)
    assert [
        torch.equal(view(images), BatchTransform(ALL)(images))
        for view in BatchTransform(ALL).evaluated
    ] == [True]
    eight = BatchTransform(ALL | {"eval_tta": 8}).evaluated
    for symmetry, view in enumerate(eight):
        assert torch.equal(view(images), transforms.dihedral(BatchTransform(ALL)(images), symmetry))
    assert len(eight) == 8


def test_autocast_changes_no_pixel():
    images, draws, view = pictures(4), uniform(4, DRAWS), BatchTransform(ALL | {"rotate": "any"})
    with torch.autocast("cpu", torch.bfloat16):
        halved = view(images, draws)
    assert halved.dtype == torch.float32
    assert torch.equal(halved, view(images, draws))


def test_an_angle_is_spread_over_the_whole_turn():
    out = transforms.resample(
        torch.eye(3).reshape(1, 1, 3, 3).repeat(4, 1, 1, 1),
        torch.arange(4) * math.pi / 2,
        torch.ones(4),
    )
    for turns in range(4):
        expected = torch.eye(3).rot90(turns)
        torch.testing.assert_close(out[turns, 0], expected, atol=1e-5, rtol=0)
