import math

import pytest
import torch

from lymphoml.cli.config import pretrain_config
from lymphoml.data.transforms import move
from lymphoml.features.pretraining.objective import affine, draw_views, jitter_colours

SETTINGS, _ = pretrain_config("simclr", "resnet10_quarter", {}, {})


def test_views_turn_by_any_angle_mirror_zoom_and_shift_within_bounds():
    torch.manual_seed(0)
    places = affine(4000, zoom=0.65, shift=0.1)
    sides = torch.linalg.det(places[:, :, :2]).abs().sqrt()
    assert 0.65 <= sides.min() < 0.66
    assert 0.99 < sides.max() <= 1
    assert 0.45 < (torch.linalg.det(places[:, :, :2]) < 0).float().mean() < 0.55
    angles = torch.atan2(-places[:, 0, 1], places[:, 1, 1])
    assert torch.histc(angles, 8, -math.pi, math.pi).min() > 400
    assert 0.099 < places[:, :, 2].abs().max() <= 0.1
    # No shear: rows are orthogonal and of one length.
    products = places[:, :, :2] @ places[:, :, :2].transpose(1, 2)
    assert torch.allclose(products, sides[:, None, None] ** 2 * torch.eye(2), atol=1e-5)


def test_a_quarter_turn_is_a_quarter_turn():
    images = torch.rand(1, 3, 8, 8)
    dihedral = move(images, torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]]))
    assert torch.allclose(dihedral, torch.rot90(images, 1, (2, 3)), atol=1e-5) or torch.allclose(
        dihedral, torch.rot90(images, -1, (2, 3)), atol=1e-5
    )


def test_colours_and_contrast_change_by_no_more_than_asked():
    torch.manual_seed(0)
    grey = torch.full((500, 3, 4, 4), 0.5)
    level = (jitter_colours(grey, 0.1) - grey).mean((2, 3))
    assert 0.049 < level.abs().max() <= 0.0501
    assert level.std(1).min() > 0  # each colour its own
    images = torch.rand(500, 3, 4, 4)
    ratio = jitter_colours(images, 0.1).std((2, 3)) / images.std((2, 3))
    assert 0.899 < ratio.min() < 0.91
    assert 1.09 < ratio.max() < 1.101


@pytest.mark.parametrize("normalised", [False, True])
def test_two_views_of_a_cell_differ_and_a_seed_repeats_them(normalised):
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    settings = SETTINGS.replace({"normalize_images": normalised})
    torch.manual_seed(1)
    one, other = draw_views(images, settings), draw_views(images, settings)
    torch.manual_seed(1)
    assert torch.equal(draw_views(images, settings), one)
    assert not torch.allclose(one, other, atol=0.01)
    assert (one.min() < -0.5) == normalised
