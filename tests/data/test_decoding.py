import hashlib

import numpy as np
import pytest
from PIL import Image

from lymphoml.data.cache import BagSource
from lymphoml.data.decoding import (
    WHOLE,
    ImageProblem,
    Preprocessing,
    decode_patient,
    open_unchanged,
    size_from_header,
)


def save(path, mode="RGB", size=(23, 23), **options):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    image = Image.fromarray(pixels).convert("RGB") if mode != "RGBA" else Image.fromarray(pixels)
    image.convert(mode).save(path, **options)
    return path


def decoded(path, *preprocessing, size=None):
    (found,) = decode_patient(BagSource.read("P1", (path,)), dict.fromkeys(preprocessing, size))
    return found


@pytest.mark.parametrize(("name", "mode", "crop", "resize"), [
    ("x.jpg", "RGB", None, None), ("x.jpg", "L", 10, None), ("x.png", "RGB", 11, 7),
    ("x.png", "RGBA", None, 30), ("x.png", "P", 11, 7), ("x.tif", "RGB", None, None),
    ("x.bmp", "RGB", 10, None),
])  # fmt: skip
def test_pixels_are_those_of_pillow(tmp_path, name, mode, crop, resize):
    path = save(tmp_path / name, mode)
    expected = Image.open(path).convert("RGB")
    if crop:
        start = (23 - crop) // 2
        expected = expected.crop((start, start, start + crop, start + crop))
    if resize:
        expected = expected.resize((resize, resize), Image.Resampling.BICUBIC)
    preprocessing = Preprocessing(crop, resize)
    assert size_from_header(path, preprocessing) == (expected.height, expected.width)
    found = decoded(path, preprocessing, WHOLE)
    np.testing.assert_array_equal(found[preprocessing], np.asarray(expected))
    assert found[WHOLE].shape == (23, 23, 3)


@pytest.mark.parametrize(("preprocessing", "what"), [
    (Preprocessing(25, None), "30 x 20 pixels, smaller than data.crop=25"),
    (Preprocessing(None, 8), "30 x 20 pixels, not square"),
])  # fmt: skip
def test_a_size_that_does_not_fit_is_a_problem(tmp_path, preprocessing, what):
    path = save(tmp_path / "x.png", size=(30, 20))
    assert what in decoded(path, preprocessing)
    assert size_from_header(path, preprocessing) is None
    assert size_from_header(path, WHOLE) == (20, 30)  # height first
    assert decoded(path, WHOLE, size=(20, 30))[WHOLE].shape == (20, 30, 3)
    assert "30 x 20 pixels where the first has 10 x 10" in decoded(path, WHOLE, size=(10, 10))


def test_a_file_that_changed_or_vanished_since_it_was_hashed_is_a_problem(tmp_path):
    path = save(tmp_path / "x.png")
    digest = hashlib.sha256(path.read_bytes()).digest()
    assert open_unchanged(path, digest).mode == "RGB"
    with pytest.raises(ImageProblem, match="changed while it was read"):
        open_unchanged(path, b"other")
    path.unlink()
    with pytest.raises(ImageProblem, match=r"cannot be read \(No such file"):
        open_unchanged(path, digest)


def test_the_cache_folder_depends_on_versions_crop_and_resize(monkeypatch):
    names = {Preprocessing(crop, resize).name for crop in (None, 8) for resize in (None, 8)}
    monkeypatch.setattr("PIL.__version__", "0.1")
    names.add(Preprocessing(None, None).name)
    monkeypatch.setattr("lymphoml.data.decoding.VERSION", 99)
    names.add(Preprocessing(None, None).name)
    assert len(names) == 6
