import numpy as np
import pytest
from PIL import Image

from lymphoml.core.errors import InputError
from lymphoml.data.cache import hash_images
from lymphoml.features import morphology as cells
from lymphoml.features.feature_cache import read_features
from lymphoml.features.morphology import NAMES, Morphology, measure


def opened(images, data):
    return read_features(hash_images(images), Morphology(), data)


def test_rows_are_those_of_the_images_in_their_order(images, data):
    store = opened(images, data)
    assert store.names == list(NAMES)
    for patient, paths in images.items():
        expected = np.stack([measure(np.asarray(Image.open(path))) for path in paths])
        assert store.bag(patient).dtype == np.float32
        assert np.array_equal(store.bag(patient), expected)


def test_several_processes_give_the_same_rows(images, data, monkeypatch, tmp_path):
    monkeypatch.setattr(cells, "FEW", 1)
    monkeypatch.setattr(cells, "available_cores", lambda: 2)
    apart = opened(images, data | {"cache": str(tmp_path / "other")})
    monkeypatch.setattr(cells, "available_cores", lambda: 1)
    for patient in images:
        assert np.array_equal(apart.bag(patient), opened(images, data).bag(patient))


def test_a_second_opening_measures_nothing(images, data, parts, monkeypatch):
    opened(images, data)
    before = parts()
    assert len(before) == 3
    monkeypatch.setattr(cells, "measure", lambda image: pytest.fail("measured again"))
    opened(images, data)
    assert parts() == before


def test_a_changed_image_measures_its_patient_alone(images, data, parts, capfd):
    opened(images, data)
    before = parts()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(images["P2"][0])
    capfd.readouterr()
    changed = opened(images, data)
    assert "building 3 images" in capfd.readouterr().out
    assert len(parts()) == 4
    assert {path: parts()[path] for path in before} == before
    assert changed.bag("P2")[0, 0] == 0


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "another's"])
def test_damaged_parts_are_measured_again(images, data, parts, damage):
    right = opened(images, data)
    first, second, _ = parts()
    content = bytearray(first.read_bytes())
    content[-40] ^= 1
    first.write_bytes({
        "truncated": content[:-50], "one bit": bytes(content), "empty": b"",
        "another's": second.read_bytes(),
    }[damage])  # fmt: skip
    again = opened(images, data)
    assert all(np.array_equal(again.bag(patient), right.bag(patient)) for patient in images)


def test_an_interrupted_build_goes_on_where_it_was(images, data, parts, monkeypatch):
    def interrupted(source):
        if source.patient == "P2":
            raise KeyboardInterrupt
        return real(source)

    real = cells.measure_patient
    monkeypatch.setattr(cells, "measure_patient", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened(images, data)
    before = parts()
    assert len(before) == 2
    monkeypatch.setattr(cells, "measure_patient", real)
    opened(images, data)
    assert len(parts()) == 3
    assert {path: parts()[path] for path in before} == before


def test_images_that_cannot_be_used_are_named_and_the_others_kept(images, data, parts):
    images["P2"][1].write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1\.png of patient P2: .*not an image.*replace") as error:
        opened(images, data)
    assert len(error.value.problems) == 1
    assert len(parts()) == 2


def test_a_cache_that_cannot_be_written_is_one_line(images, data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written .* data\.cache=DIR"):
        opened(images, data | {"cache": str(tmp_path / "file")})
