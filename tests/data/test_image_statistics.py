"""Brightness, saturation, size and focus of images, against their definitions."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from lymphoml.data.image_statistics import SAMPLED, SIDE, image_statistics, measure


def test_statistics_are_those_of_the_pixels():
    pixels = np.random.default_rng(0).integers(100, 140, (20, 31, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    brightness, saturation, size, focus = measure(image)
    assert brightness == pytest.approx((pixels @ [0.299, 0.587, 0.114]).mean(), abs=0.5)
    hsv = 1 - pixels.min(axis=2) / pixels.max(axis=2)
    assert saturation == pytest.approx(hsv.mean(), abs=0.01)
    assert size == (20 * 31) ** 0.5
    luma = np.asarray(image.convert("L"), dtype=float)
    sides = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    assert focus == pytest.approx((sides - 4 * luma[1:-1, 1:-1]).std(), rel=0.01)
    assert measure(image.filter(ImageFilter.GaussianBlur(1)))[3] < focus / 4


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 9), (3, 3), (SIDE + 1, 5)])
def test_any_size_is_measured(size):
    assert measure(Image.new("RGB", size, "white"))[:2] == (255, 0)


def test_a_patients_images_are_averaged_and_those_that_cannot_be_read_left_out(tmp_path):
    paths = tuple(tmp_path / f"{number:03}.png" for number in range(3 * SAMPLED))
    for number, path in enumerate(paths):
        Image.new("L", (4, 4), number).save(path)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    table = image_statistics({"P1": paths, "P2": (broken, paths[9]), "P3": (broken,)})
    assert table["brightness"]["P1"] == np.arange(0, 3 * SAMPLED, 3).mean()
    assert table["brightness"]["P2"] == 9
    assert table.loc["P3"].isna().all()
