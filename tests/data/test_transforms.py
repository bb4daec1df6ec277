import numpy as np
import torch

from lymphoml.data import transforms


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_unit_is_division_by_255():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    torch.testing.assert_close(transforms.to_unit(images), images.float() / 255)


def test_normalise_is_imagenets():
    out = transforms.normalise(torch.full((1, 3, 2, 2), 0.5))
    expected = [(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225]
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor(expected))


def test_flips_and_turns_reach_all_eight_symmetries_and_nothing_else():
    image = torch.rand(3, 5, 5, generator=seeded())
    many = image.repeat(400, 1, 1, 1)
    out = transforms.rotate(transforms.flip(many, seeded(1)), seeded(2))
    symmetries = [
        torch.rot90(side, turns, (-2, -1)) for side in (image, image.flip(-1)) for turns in range(4)
    ]
    matches = torch.stack([(out == one).flatten(1).all(1) for one in symmetries])
    assert (matches.sum(0) == 1).all()
    assert (matches.sum(1) > 20).all()


def test_jitter_stays_in_the_unit_range_and_keeps_its_bound():
    images = torch.full((200, 3, 4, 4), 0.5)
    out = transforms.jitter(images, 0.2, seeded())
    level = out[:, 0, 0, 0].numpy()
    assert 0.4 <= level.min() < 0.42
    assert 0.58 < level.max() <= 0.6
    assert len(np.unique(level)) > 150
    bright = transforms.jitter(torch.rand(50, 3, 4, 4, generator=seeded()), 0.9, seeded(1))
    assert bright.min() >= 0
    assert bright.max() <= 1


def test_the_same_generator_state_gives_the_same_images():
    images = torch.rand(6, 3, 8, 8, generator=seeded())
    for change in (transforms.flip, transforms.rotate):
        assert torch.equal(change(images, seeded(5)), change(images, seeded(5)))
        assert not torch.equal(change(images, seeded(5)), change(images, seeded(6)))
