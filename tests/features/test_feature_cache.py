"""One pass over the images, and entries a block and patient."""

import numpy as np
import pytest
from PIL import Image

from lymphoml.core.errors import InputError
from lymphoml.data.cache import hash_images
from lymphoml.data.decoding import Preprocessing, open_unchanged
from lymphoml.features.blocks import EncoderBlock, MorphologyBlock
from lymphoml.features.feature_cache import load_features
from lymphoml.features.morphology import NAMES, measure

ENCODER = EncoderBlock(
    {"_target_": "lymphoml.models.encoders.resnet10", "width": 2}, Preprocessing(24, None), True
)


BOTH = [MorphologyBlock(), ENCODER]


@pytest.fixture
def opened(images, tmp_path):
    def load(blocks=BOTH[:1], cache="cache"):
        return load_features(blocks, hash_images(images), str(tmp_path / cache))

    return load


def same(one, other, images):
    return all(np.array_equal(one.bag(patient), other.bag(patient)) for patient in images)


def test_one_pass_decodes_each_image_once_and_gives_what_each_block_gives_alone(
    images, opened, monkeypatch
):
    alone = [opened([block], cache="alone")[0] for block in BOTH]
    assert alone[0].names == list(NAMES)
    for patient, paths in images.items():
        expected = np.stack([measure(np.asarray(Image.open(path))) for path in paths])
        assert alone[0].bag(patient).dtype == np.float32
        assert np.array_equal(alone[0].bag(patient), expected)
    decoded = []
    monkeypatch.setattr(
        "lymphoml.data.decoding.open_unchanged",
        lambda path, *rest: decoded.append(path) or open_unchanged(path, *rest),
    )
    together = opened(BOTH)
    assert sorted(decoded) == sorted(path for paths in images.values() for path in paths)
    for one, other in zip(alone, together, strict=True):
        assert same(one, other, images)


def test_a_pass_computes_only_what_is_missing(images, opened, entries, monkeypatch, capfd):
    opened()
    before = entries()
    assert len(before) == 3
    monkeypatch.setattr("lymphoml.features.morphology.measure", lambda _: pytest.fail("measured"))
    opened()
    opened(BOTH)
    assert len(entries()) == 6
    assert {path: entries()[path] for path in before} == before
    monkeypatch.undo()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(images["P2"][0])
    capfd.readouterr()
    changed, _ = opened(BOTH)
    assert "computing features of 3 images" in capfd.readouterr().out
    assert changed.bag("P2")[0, 0] == 0


def test_images_that_cannot_be_used_are_named_and_the_others_kept(images, opened, entries):
    images["P2"][1].write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1\.png of patient P2: .*not an image.*replace") as error:
        opened(BOTH)
    assert len(error.value.problems) == 1
    assert len(entries()) == 4


def test_corrupt_entries_are_computed_again(images, opened, entries):
    (right,) = opened()
    first, second, third = entries()
    first.write_bytes(second.read_bytes())
    third.write_bytes(third.read_bytes()[:-50])
    assert same(opened()[0], right, images)


def test_a_cache_that_cannot_be_written_is_one_line(opened, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written .* data\.cache=DIR"):
        opened(cache="file")
