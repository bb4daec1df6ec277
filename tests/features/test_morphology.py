"""Cells whose outlines are known, since the generator or the test drew them."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lymphoml.data.synthetic.drawing import draw_slide, draw_smear
from lymphoml.features.morphology import NAMES, measure
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


def cell(number, size):
    rng = np.random.default_rng(number)
    return draw_smear(size, number % 2 == 0, draw_slide(rng), rng)


def measured(image):
    return dict(zip(NAMES, measure(image).tolist(), strict=True))


def test_a_cell_beside_the_centre_is_found_where_it_is():
    nucleus = segment(drawn(row=12, column=-9)).nucleus
    found = np.argwhere(nucleus).mean(0) - (np.array(nucleus.shape) - 1) / 2
    assert found == pytest.approx([12, -9], abs=1.5)


def test_red_cells_are_no_cytoplasm():
    bare = segment(drawn(nucleus=28, cell=29))
    assert bare.cytoplasm.sum() < 0.25 * bare.nucleus.sum()


@pytest.mark.parametrize(("colour", "place"), [(RED, (20, 0, 0)), (PURPLE, (16, 70, 70))])
def test_without_a_nucleus_in_the_centre_a_disc_stands_for_it(colour, place):
    image = np.full((224, 224, 3), WHITE, np.uint8)
    image[disc(224, *place)] = colour
    found = segment(image)
    assert not found.found
    assert found.nucleus.any()
    assert not found.cytoplasm.any()


def test_density_is_against_the_images_own_light():
    image = drawn()
    darker = (image * 0.9).astype(np.uint8)
    assert optical_density(darker) == pytest.approx(optical_density(image), abs=0.03)


def test_names_are_unique_and_documented():
    page = (Path(__file__).parents[2] / "docs" / "morphology.md").read_text()
    assert len(set(NAMES)) == len(NAMES) == 38
    assert [name for name in NAMES if f"`{name}`" not in page] == []


@pytest.mark.parametrize("size", [112, 224])
def test_the_measures_of_discs_are_those_of_geometry(size):
    found = measured(drawn(size))
    assert found["segmented"] == 1
    assert found["nucleus_area"] == pytest.approx(np.pi * 28**2 / 224**2 * 100, rel=0.1)
    assert found["cell_area"] == pytest.approx(np.pi * 40**2 / 224**2 * 100, rel=0.12)
    assert found["nucleus_share"] == pytest.approx((28 / 40) ** 2, rel=0.12)
    assert found["nucleus_eccentricity"] < 0.2
    assert found["nucleus_solidity"] > 0.96
    assert found["nucleus_circularity"] == pytest.approx(1, abs=0.15)
    assert found["nucleus_perimeter"] == pytest.approx(2 * np.pi * 28 / 2.24, rel=0.1)
    assert found["nucleus_offset"] < 0.1
    density = -np.log(np.array(PURPLE) / np.array((252, 232, 204)))
    for channel, value in zip(("red", "green", "blue"), density, strict=True):
        assert found[f"nucleus_{channel}"] == pytest.approx(value, rel=0.05)


def test_texture_separates_clumped_chromatin_from_smooth():
    smooth = drawn()
    clumped = smooth.copy()
    rows, columns = np.indices(clumped.shape[:2])
    clumped[disc(224, 28) & ((rows // 4 + columns // 4) % 2 == 0)] = (110, 75, 150)
    one, other = measured(smooth), measured(clumped)
    for name in ("entropy", "contrast_near", "granularity_coarse", "range"):
        assert other[f"chromatin_{name}"] > one[f"chromatin_{name}"] + 0.02, name
    assert other["chromatin_homogeneity"] < one["chromatin_homogeneity"]


@pytest.mark.parametrize("dihedral", [np.rot90, np.flipud, np.fliplr])
def test_a_turned_or_mirrored_cell_is_the_same_cell(dihedral):
    image = cell(3, 224)
    assert measure(dihedral(image).copy()) == pytest.approx(measure(image), rel=0.02, abs=0.02)


@pytest.mark.parametrize("image", [
    np.zeros((224, 224, 3), np.uint8),
    np.full((32, 32, 3), 255, np.uint8),
    np.full((5, 7, 3), 100, np.uint8),
    np.zeros((1, 1, 3), np.uint8),
    np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8),
    np.where(disc(224, 60)[..., None], np.uint8(PURPLE), np.uint8(BLUE)),
    np.full((224, 224, 3), PURPLE, np.uint8),
], ids=["black", "white", "tiny", "a pixel", "noise", "in cytoplasm", "all nucleus"])  # fmt: skip
def test_nothing_is_ever_nan(image):
    values = measure(image)
    assert values.shape == (38,)
    assert np.isfinite(values).all()


@pytest.mark.parametrize("size", [32, pytest.param(224, marks=pytest.mark.slow)])
def test_cells_of_the_generator_are_found_and_atypical_ones_recognised(size):
    features = np.stack([measure(cell(number, size)) for number in range(120)])
    assert features[:, NAMES.index("segmented")].all()
    model = make_pipeline(StandardScaler(), LogisticRegression())
    assert cross_val_score(model, features, np.arange(120) % 2, cv=5).mean() > 0.9
