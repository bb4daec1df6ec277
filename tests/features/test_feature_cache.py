"""One pass over the images, and entries a block and patient."""

import numpy as np
import pytest
from PIL import Image

from lymphoml.core.errors import InputError
from lymphoml.data.cache import hash_images
from lymphoml.data.decoding import Preprocessing, open_unchanged
from lymphoml.features import feature_cache
from lymphoml.features.blocks import EncoderBlock, MorphologyBlock
from lymphoml.features.feature_cache import load_features
from lymphoml.features.morphology import NAMES, measure

ENCODER = EncoderBlock(
    {"_target_": "lymphoml.models.encoders.resnet10", "width": 2}, Preprocessing(24, None), True
)


@pytest.fixture
def opened(images, tmp_path):
    morphology = (MorphologyBlock(),)

    def load(blocks=morphology, cache="cache"):
        return load_features(list(blocks), hash_images(images), str(tmp_path / cache))

    return load


def same(one, other, images):
    return all(np.array_equal(one.bag(patient), other.bag(patient)) for patient in images)


def test_features_are_those_of_the_images_in_their_order(images, opened):
    (store,) = opened()
    assert store.names == list(NAMES)
    for patient, paths in images.items():
        expected = np.stack([measure(np.asarray(Image.open(path))) for path in paths])
        assert store.bag(patient).dtype == np.float32
        assert np.array_equal(store.bag(patient), expected)


def test_one_pass_decodes_each_image_once_and_gives_what_each_block_gives_alone(
    images, opened, monkeypatch
):
    alone = [opened([block], cache="alone")[0] for block in (MorphologyBlock(), ENCODER)]
    decoded = []

    def counted(path, *rest):
        decoded.append(path)
        return open_unchanged(path, *rest)

    monkeypatch.setattr("lymphoml.data.decoding.open_unchanged", counted)
    together = opened([MorphologyBlock(), ENCODER])
    assert sorted(decoded) == sorted(path for paths in images.values() for path in paths)
    for one, other in zip(alone, together, strict=True):
        assert same(one, other, images)


def test_a_pass_computes_only_what_is_missing(images, opened, parts, monkeypatch, capfd):
    opened()
    before = parts()
    assert len(before) == 3
    monkeypatch.setattr("lymphoml.features.morphology.measure", lambda _: pytest.fail("measured"))
    opened()
    opened([MorphologyBlock(), ENCODER])
    assert len(parts()) == 6
    assert {path: parts()[path] for path in before} == before
    monkeypatch.undo()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(images["P2"][0])
    capfd.readouterr()
    changed, _ = opened([MorphologyBlock(), ENCODER])
    assert "computing features of 3 images" in capfd.readouterr().out
    assert changed.bag("P2")[0, 0] == 0


@pytest.mark.slow
def test_several_processes_give_the_same_features(images, opened, monkeypatch):
    blocks = [MorphologyBlock(), ENCODER]
    alone = opened(blocks)
    monkeypatch.setattr(feature_cache, "FEW", 1)
    monkeypatch.setattr(feature_cache, "available_cores", lambda: 2)
    for one, other in zip(alone, opened(blocks, cache="other"), strict=True):
        assert same(one, other, images)


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "another's"])
def test_corrupt_entries_are_computed_again(images, opened, parts, damage):
    (right,) = opened()
    first, second, _ = parts()
    content = bytearray(first.read_bytes())
    content[-40] ^= 1
    first.write_bytes({
        "truncated": content[:-50], "one bit": bytes(content), "empty": b"",
        "another's": second.read_bytes(),
    }[damage])  # fmt: skip
    (again,) = opened()
    assert same(again, right, images)


def test_an_interrupted_pass_resumes(opened, parts, monkeypatch):
    def interrupted(blocks, task, sizes):
        if task.source.patient == "P2":
            raise KeyboardInterrupt
        return real(blocks, task, sizes)

    real = feature_cache.compute_patient
    with monkeypatch.context() as patch:
        patch.setattr(feature_cache, "compute_patient", interrupted)
        with pytest.raises(KeyboardInterrupt):
            opened()
    before = parts()
    assert len(before) == 2
    opened()
    assert len(parts()) == 3
    assert {path: parts()[path] for path in before} == before


def test_images_that_cannot_be_used_are_named_and_the_others_kept(images, opened, parts):
    images["P2"][1].write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1\.png of patient P2: .*not an image.*replace") as error:
        opened([MorphologyBlock(), ENCODER])
    assert len(error.value.problems) == 1
    assert len(parts()) == 4


def test_a_cache_that_cannot_be_written_is_one_line(opened, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written .* data\.cache=DIR"):
        opened(cache="file")
