import hashlib
import warnings

import numpy as np
import pytest
from PIL import Image

from lymphoml.data.decoding import Preprocessing, decode, size_from_header


def save(path, mode="RGB", size=(23, 23), **options):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    image = Image.fromarray(pixels).convert("RGB") if mode != "RGBA" else Image.fromarray(pixels)
    image.convert(mode).save(path, **options)
    return path


def decoded(path, preprocessing, size):
    return decode(path, hashlib.sha256(path.read_bytes()).digest(), preprocessing, size)


@pytest.mark.parametrize(("name", "mode"), [
    ("x.jpg", "RGB"), ("x.jpg", "L"), ("x.png", "RGB"), ("x.png", "RGBA"), ("x.png", "P"),
    ("x.tif", "RGB"), ("x.bmp", "RGB"),
])  # fmt: skip
@pytest.mark.parametrize(("crop", "resize"), [(None, None), (10, None), (11, 7), (None, 30)])
def test_pixels_are_those_of_pillow(tmp_path, name, mode, crop, resize):
    path = save(tmp_path / name, mode)
    expected = Image.open(path).convert("RGB")
    if crop:
        start = (23 - crop) // 2
        expected = expected.crop((start, start, start + crop, start + crop))
    if resize:
        expected = expected.resize((resize, resize), Image.Resampling.BICUBIC)
    size = size_from_header(path, Preprocessing(crop, resize))
    assert size == (expected.height, expected.width)
    np.testing.assert_array_equal(
        decoded(path, Preprocessing(crop, resize), size), np.asarray(expected)
    )


def test_height_comes_before_width(tmp_path):
    path = save(tmp_path / "wide.png", size=(30, 20))
    assert size_from_header(path, Preprocessing(None, None)) == (20, 30)
    assert decoded(path, Preprocessing(None, None), (20, 30)).shape == (20, 30, 3)


@pytest.mark.parametrize(("size", "preprocessing", "what"), [
    ((30, 20), Preprocessing(25, None), "30 x 20 pixels, smaller than data.crop=25"),
    ((30, 20), Preprocessing(None, 8), "30 x 20 pixels, not square"),
    ((30, 20), Preprocessing(None, None), "30 x 20 pixels where the first has 10 x 10"),
])  # fmt: skip
def test_a_size_that_does_not_fit_is_a_problem(tmp_path, size, preprocessing, what):
    assert decoded(save(tmp_path / "x.png", size=size), preprocessing, (10, 10)).what == what


def test_a_huge_or_16_bit_header_is_refused_before_a_pixel_is_decoded(tmp_path, monkeypatch):
    huge, deep = tmp_path / "huge.png", tmp_path / "deep.png"
    Image.new("1", (9000, 9000)).save(huge)
    Image.fromarray(np.zeros((20, 20), np.uint16)).save(deep)
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("decoded"))
    for path, kind in ((huge, "too many pixels"), (deep, "of a mode that is refused")):
        assert decoded(path, Preprocessing(None, None), (20, 20)).kind == kind
        assert size_from_header(path, Preprocessing(None, None)) is None


def test_bytes_that_make_no_sense_are_a_problem(tmp_path):
    whole = save(tmp_path / "x.png").read_bytes()
    for content, kind in (
        (b"", "not an image"),
        (b"not an image", "not an image"),
        (whole[:200], "truncated"),
        (whole[:20] + b"\xff" * 200, "not an image"),
    ):
        (tmp_path / "bad.png").write_bytes(content)
        with warnings.catch_warnings(action="error"):
            problem = decoded(tmp_path / "bad.png", Preprocessing(None, None), (23, 23))
        assert problem.kind == kind


def test_a_file_that_changed_or_vanished_since_it_was_hashed_is_a_problem(tmp_path):
    path = save(tmp_path / "x.png")
    problem = decode(path, b"other", Preprocessing(None, None), (23, 23))
    assert problem.what == "changed while it was read"
    path.unlink()
    problem = decode(path, b"other", Preprocessing(None, None), (23, 23))
    assert problem.kind == "unreadable file"


def test_the_cache_folder_depends_on_versions_crop_and_resize(monkeypatch):
    names = {Preprocessing(crop, resize).name for crop in (None, 8) for resize in (None, 8)}
    monkeypatch.setattr("PIL.__version__", "0.1")
    names.add(Preprocessing(None, None).name)
    monkeypatch.setattr("lymphoml.data.decoding.VERSION", 99)
    names.add(Preprocessing(None, None).name)
    assert len(names) == 6
