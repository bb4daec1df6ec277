import os
import pickle

import numpy as np
import pytest
from PIL import Image

from lymphoml.core.errors import InputError, RuntimeFailure
from lymphoml.data import cache, decoding


def pixels(paths):
    return np.stack([np.asarray(Image.open(path)) for path in paths])


def test_every_bag_holds_its_own_pixels(images, opened):
    store = opened()
    for patient, paths in images.items():
        np.testing.assert_array_equal(store.bag(patient), pixels(paths))
    assert store.size == (20, 20)
    assert store.lengths == [2, 1, 3]
    assert isinstance(store.bag("P1"), np.memmap)


def test_crop_is_central_and_comes_before_resize(images, opened):
    whole = pixels(images["P10"])
    np.testing.assert_array_equal(opened(crop=10).bag("P10"), whole[:, 5:15, 5:15])
    assert opened(crop=10, resize=7).bag("P2").shape == (3, 7, 7, 3)


def test_second_opening_reads_each_image_once_and_decodes_and_writes_nothing(
    images, opened, monkeypatch, capsys
):
    opened()
    capsys.readouterr()
    monkeypatch.setattr(decoding, "open_unchanged", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr(cache, "FileLock", lambda *_: pytest.fail("locked"))
    read, read_bytes = [], cache.read_bytes
    monkeypatch.setattr(cache, "read_bytes", lambda p: read.append(p) or read_bytes(p))
    opened()
    assert sorted(read) == sorted(path for paths in images.values() for path in paths)
    assert not capsys.readouterr().out


def test_an_entry_spoiled_during_a_run_is_refused_and_one_rebuilt_is_read(images, opened, entries):
    store = opened()
    path = max(entries(), key=lambda each: each.stat().st_size)
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole)
    np.testing.assert_array_equal(store.bag("P2"), pixels(images["P2"]))
    os.truncate(path, 300)
    with pytest.raises(RuntimeFailure, match=r"patient P2: .* truncated .* rerun"):
        store.bag("P2")


def test_bags_that_are_no_longer_used_hold_no_file_open(images, opened):
    many = {f"P{i}": (images["P1"][0], *images["P2"][: i % 4]) for i in range(50)}
    before = len(os.listdir("/dev/fd"))
    store = opened(many)
    for patient, paths in many.items():
        assert len(store.bag(patient)) == len(paths)
    assert len(os.listdir("/dev/fd")) == before


def test_thousands_of_bad_images_are_21_lines(images, opened):
    images["P1"][0].write_text("not an image")
    with pytest.raises(InputError) as refused:
        opened(images | {"P3": images["P1"][:1] * 30})
    assert len(refused.value.problems) == 21
    assert refused.value.problems[-1] == "... and 11 more images like these"


def test_all_bad_images_are_named_and_no_entry_holds_one(images, opened, entries):
    images["P1"][0].write_text("not an image")
    images["P2"][0].unlink()
    Image.fromarray(np.zeros((20, 20), np.uint16)).save(images["P2"][2])
    for _ in range(2):  # what is bad stays bad
        with pytest.raises(InputError) as refused:
            opened()
        first, second, third = refused.value.problems
        assert f"{images['P1'][0]} of patient P1: cannot be decoded (not an image)" in first
        assert f"{images['P2'][0]} of patient P2: cannot be read" in second
        assert "I;16" in third
    (entry,) = entries()  # P10's
    np.testing.assert_array_equal(np.load(entry), pixels(images["P10"]))
    assert {path.name for path in entry.parent.iterdir()} == {entry.name, ".lock"}
    store = opened({"P10": images["P10"]})
    missing = images["P10"][0].with_name("9.png")
    with pytest.raises(InputError, match=r"9.png of patient P10: cannot be read"):
        opened({"P10": (*images["P10"], missing)})
    sent = pickle.dumps(store)  # to a worker
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).bag("P10"), pixels(images["P10"]))


def test_images_of_several_sizes_are_refused_until_resized(images, opened):
    Image.new("RGB", (30, 30)).save(images["P10"][0])
    mixed = r"P10/0.png of patient P10: 30 x 30 .* has 20 x 20; .* data.resize"
    with pytest.raises(InputError, match=mixed):
        opened()
    assert opened({"P10": images["P10"]}).size == (30, 30)
    with pytest.raises(InputError, match=mixed):  # though each entry is intact
        opened()
    assert opened(resize=8).size == (8, 8)
    assert opened(crop=20).size == (20, 20)
    with pytest.raises(InputError, match=r"smaller than data.crop=25"):
        opened(crop=25)
