import numpy as np
import pytest
import torch

from lymphoml.data import transforms
from lymphoml.data.transforms import DRAWS, View

PLAIN = {"flip": False, "rotate": False, "colour": 0.0, "normalise": False}
ALL = {"flip": True, "rotate": True, "colour": 0.2, "normalise": True}


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
    assert torch.equal(View(ALL)(images), expected)
    assert torch.equal(View(PLAIN)(images, uniform(4, DRAWS)), transforms.to_unit(images))


@pytest.mark.parametrize("key", ["flip", "rotate", "colour"])
def test_each_option_alone_changes_images_by_their_draws(key):
    images, view = pictures(8), View(PLAIN | {key: ALL[key]})
    assert view.random
    changed = view(images, uniform(8, DRAWS))
    assert not torch.equal(changed, view(images))
    assert not torch.equal(changed, view(images, uniform(8, DRAWS, seed=1)))
    assert not View(PLAIN).random


def test_a_part_of_a_batch_is_viewed_as_in_the_whole():
    images, draws, view = pictures(9), uniform(9, DRAWS), View(ALL)
    parts = [view(images[part], draws[part]) for part in (slice(0, 4), slice(4, 9))]
    assert torch.equal(torch.cat(parts), view(images, draws))
