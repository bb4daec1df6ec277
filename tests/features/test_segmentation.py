"""Cells whose outlines are known, since the generator drew them."""

import numpy as np
import pytest

from lymphoml.data.synthetic.drawing import draw_slide, draw_smear
from lymphoml.features.segmentation import optical_density, segment

WHITE, RED, BLUE, PURPLE = (252, 232, 204), (170, 145, 160), (185, 178, 210), (80, 40, 125)


def disc(size, radius, row=0.0, column=0.0):
    axis = np.arange(size) - (size - 1) / 2
    return np.hypot(axis[:, None] - row, axis - column) <= radius


def drawn(size=224, nucleus=28, cell=40, row=0.0, column=0.0):
    """A nucleus in its cytoplasm, a red cell that touches it and another nucleus farther away."""
    image = np.full((size, size, 3), WHITE, np.uint8)
    scale = size / 224
    image[disc(size, 20 * scale, (row + cell + 15) * scale, column * scale)] = RED
    image[disc(size, 20 * scale, -80 * scale, 80 * scale)] = PURPLE
    image[disc(size, cell * scale, row * scale, column * scale)] = BLUE
    image[disc(size, nucleus * scale, row * scale, column * scale)] = PURPLE
    return image


@pytest.mark.parametrize("size", [112, 224])
@pytest.mark.parametrize("place", [(0, 0), (12, -9)])
def test_nucleus_and_cytoplasm_of_the_central_cell_are_found(size, place):
    cell, scale = segment(drawn(size, 28, 40, *place)), size / 224
    assert cell.found
    assert cell.nucleus.sum() == pytest.approx(np.pi * (28 * scale) ** 2, rel=0.1)
    assert cell.whole.sum() == pytest.approx(np.pi * (40 * scale) ** 2, rel=0.12)
    assert not (cell.nucleus & cell.cytoplasm).any()
    rows, columns = np.nonzero(cell.nucleus)
    middle = (np.array(cell.nucleus.shape) - 1) / 2
    found = np.array([rows.mean(), columns.mean()]) - middle
    assert found == pytest.approx(np.array(place) * scale, abs=1.5)


def test_red_cells_are_no_cytoplasm():
    bare = segment(drawn(nucleus=28, cell=29))
    assert bare.cytoplasm.sum() < 0.25 * bare.nucleus.sum()


def test_an_image_without_a_nucleus_gets_a_disc_and_says_so():
    image = np.full((224, 224, 3), WHITE, np.uint8)
    image[disc(224, 20)] = RED
    cell = segment(image)
    assert not cell.found
    assert cell.nucleus.any()
    assert not cell.cytoplasm.any()


def test_a_nucleus_far_from_the_centre_is_not_the_cell():
    image = np.full((224, 224, 3), WHITE, np.uint8)
    image[disc(224, 16, 70, 70)] = PURPLE
    assert not segment(image).found


@pytest.mark.parametrize("size", [32, 224])
def test_every_cell_of_the_generator_is_found(size):
    for number in range(30):
        rng = np.random.default_rng([size, number])
        cell = segment(draw_smear(size, number % 2 == 0, draw_slide(rng), rng))
        assert cell.found
        assert cell.cytoplasm.any()


def test_density_is_against_the_images_own_light():
    image = drawn()
    darker = (image * 0.9).astype(np.uint8)
    assert optical_density(darker) == pytest.approx(optical_density(image), abs=0.03)
