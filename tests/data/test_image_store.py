"""Entries verify themselves; a build survives damage, other processes and full disks."""

import hashlib
import os
import pickle
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from lymphoml.core.errors import InputError, RuntimeFailure
from lymphoml.data import cache, decoding
from lymphoml.data.cache import (
    BagSource,
    check_entry,
    content_key,
    hash_images,
    read_entry,
    write_entry,
)
from lymphoml.data.decoding import Preprocessing
from lymphoml.data.image_store import read_images

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
FEATURES = np.random.default_rng(0).random((3, 7), np.float32)


@pytest.fixture(params=[PIXELS, FEATURES], ids=["pixels", "features"])
def entry(request, tmp_path):
    path = tmp_path / "0123.npy"
    write_entry(path, request.param.shape, iter(request.param))
    return path, request.param


@pytest.fixture
def opened(images, tmp_path):
    """Opens the store of these images, or of others."""

    def open_store(images=images, crop=None, resize=None, cache=tmp_path / "cache"):
        return read_images(images, Preprocessing(crop, resize), str(cache))[0]

    return open_store


def pixels(paths):
    return np.stack([np.asarray(Image.open(path)) for path in paths])


def assert_same_pixels(store, images):
    for patient, paths in images.items():
        np.testing.assert_array_equal(store.bag(patient), pixels(paths))


def test_an_entry_is_a_npy_file_and_a_digest_that_is_mapped_and_never_changed(entry):
    path, array = entry
    np.testing.assert_array_equal(np.load(path), array)
    content = path.read_bytes()
    assert hashlib.sha256(b"0123" + content[:-32]).digest() == content[-32:]
    assert check_entry(path) == array.shape
    bag = read_entry(path)
    assert isinstance(bag, np.memmap)
    bag[:] = 0  # reaches no file
    bag.flush()
    assert path.read_bytes() == content


def test_a_flipped_bit_or_a_truncation_anywhere_is_found(entry):
    path, _ = entry
    whole = path.read_bytes()
    for position in range(0, len(whole), 9):
        spoiled = bytearray(whole)
        spoiled[position] ^= 1 << position % 8
        path.write_bytes(spoiled)
        assert check_entry(path) == "truncated or corrupt"
        path.write_bytes(whole[:position])
        assert check_entry(path) == ("truncated or corrupt" if position else "empty")
    other = path.with_name("4567.npy")  # another entry's name
    for spoiled, content in ((path, whole + b"\0"), (other, whole)):
        spoiled.write_bytes(content)
        assert check_entry(spoiled) == "truncated or corrupt"
    assert check_entry(path.with_name("89.npy")) == "missing"
    assert check_entry(path.parent) == "unreadable (not a file)"
    assert check_entry(path.with_name("x" * 300)) == "unreadable (File name too long)"


def test_entries_are_read_by_many_threads_at_once(entry, monkeypatch):
    """Whatever a thread does in the middle of reading a header, such as collecting garbage."""
    path, array = entry
    reading = Counter()
    load = np.lib.format.open_memmap

    def slow(*arguments, **options):
        reading["now"] += 1
        reading["most"] = max(reading["most"], reading["now"])
        time.sleep(0.002)
        try:
            return load(*arguments, **options)
        finally:
            reading["now"] -= 1

    monkeypatch.setattr(np.lib.format, "open_memmap", slow)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(check_entry, [path] * 40)) == {array.shape}
    assert reading["most"] == 1  # Python 3.11.7 cannot parse in two threads


def test_an_entrys_name_depends_on_bytes_order_and_folder_but_not_on_the_patient(images, tmp_path):
    first, second = images["P1"]
    names = {
        BagSource.read("P1", paths).entry(tmp_path / folder).name
        for paths in ((first,), (first, second), (second, first))
        for folder in ("crop=8", "crop=9")
    }
    assert len(names) == 6
    assert BagSource.read("other", (first,)).entry(tmp_path / "crop=8").name in names


def test_the_content_key_depends_on_every_byte_and_on_the_patient(images):
    before = content_key(hash_images(images))
    moved = images | {"P1": images["P1"][:1], "P10": (images["P1"][1], *images["P10"])}
    assert content_key(hash_images(moved)) != before
    images["P1"][0].write_bytes(images["P1"][0].read_bytes() + b"\0")
    assert content_key(hash_images(images)) != before


def test_a_changed_added_or_removed_image_rebuilds_its_patient_alone(
    images, opened, entries, monkeypatch
):
    opened()
    before = entries()
    Image.new("RGB", (32, 32)).save(images["P1"][1])
    longer = images | {"P10": images["P10"] * 2, "P2": images["P2"][:2]}
    for changed, rebuilt in ((images, 1), (longer, 2)):
        assert_same_pixels(opened(changed), changed)
        after = entries()
        assert len(after) == len(before) + rebuilt
        assert {path: after[path] for path in before} == before
        before = after
    monkeypatch.setattr(decoding, "open_unchanged", lambda *_: pytest.fail("decoded again"))
    opened({"other id": images["P2"], "P1": images["P1"]})  # cohorts share entries


@pytest.mark.parametrize("left", [0, 300], ids=["empty", "cut"])
def test_a_corrupt_entry_alone_is_rebuilt_and_reported(images, opened, entries, capsys, left):
    opened()
    before = entries()
    damaged = max(before, key=lambda path: path.stat().st_size)
    os.truncate(damaged, left)
    os.utime(damaged, ns=(0, 0))
    capsys.readouterr()
    assert_same_pixels(opened(), images)
    after = entries()
    assert after.pop(damaged) > before.pop(damaged)
    assert after == before
    reported, building = capsys.readouterr().out.splitlines()
    assert "rebuilding corrupt entries: 1 " in reported
    assert "building 3 images" in building


def test_who_comes_second_waits_and_builds_nothing_again(
    images, opened, entries, monkeypatch, capsys
):
    held, decoded, open_unchanged = Event(), [], decoding.open_unchanged

    def slow(path, *rest):
        decoded.append(path)
        assert held.wait(30)
        return open_unchanged(path, *rest)

    opened({"P10": images["P10"]})
    (finished,) = before = entries()
    leftover = finished.with_name(".0.npy.killed")
    leftover.touch()
    monkeypatch.setattr(decoding, "open_unchanged", slow)
    printed = ""
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(opened)
        while not decoded:
            time.sleep(0.01)
        second = pool.submit(opened)
        while "waiting for another process" not in printed:
            assert not second.done()
            printed += capsys.readouterr().out
            time.sleep(0.01)
        held.set()
    for each in (first, second):
        assert_same_pixels(each.result(), images)
    assert sorted(decoded) == sorted(images["P1"] + images["P2"])
    assert entries()[finished] == before[finished]
    assert not leftover.exists()


def test_too_little_space_is_one_line_before_anything_is_decoded(images, opened, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5000))
    monkeypatch.setattr(decoding, "open_unchanged", lambda *_: pytest.fail("decoded"))
    with pytest.raises(RuntimeFailure, match=r"needs 18.4 kB.*data\.cache=DIR") as refused:
        opened()
    assert len(refused.value.problems) == 1


def test_a_cache_that_cannot_be_made_is_one_line(opened, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/images/.* \(Not a directory\).* data.cache=DIR"):
        opened(cache=tmp_path / "file")


# The store


def test_second_opening_reads_each_image_once_and_decodes_and_writes_nothing(
    images, opened, monkeypatch, capsys
):
    opened()
    capsys.readouterr()
    monkeypatch.setattr(decoding, "open_unchanged", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr(cache, "FileLock", lambda *_: pytest.fail("locked"))
    read, read_bytes = [], cache.read_bytes
    monkeypatch.setattr(cache, "read_bytes", lambda p: read.append(p) or read_bytes(p))
    store = opened()
    assert (store.size, store.patients, store.lengths) == ((32, 32), ["P1", "P10", "P2"], [2, 1, 3])
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


def test_all_bad_images_are_named_and_no_entry_holds_one(images, opened, entries):
    images["P1"][0].write_text("not an image")
    images["P2"][0].unlink()
    Image.fromarray(np.zeros((32, 32), np.uint16)).save(images["P2"][2])
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
    with pytest.raises(InputError) as refused:
        opened(images | {"P3": images["P1"][:1] * 30})
    assert len(refused.value.problems) == 21
    assert refused.value.problems[-1] == "... and 13 more images like these"
    store = opened({"P10": images["P10"]})
    sent = pickle.dumps(store)  # to a worker
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).bag("P10"), pixels(images["P10"]))


def test_images_of_several_sizes_are_refused_until_resized(images, opened):
    Image.new("RGB", (30, 30)).save(images["P10"][0])
    mixed = r"P10/0.png of patient P10: 30 x 30 .* has 32 x 32; .* data.resize"
    with pytest.raises(InputError, match=mixed):
        opened()
    assert opened({"P10": images["P10"]}).size == (30, 30)
    with pytest.raises(InputError, match=mixed):  # though each entry is intact
        opened()
    assert opened(resize=8).size == (8, 8)
    assert opened(crop=28).size == (28, 28)
    with pytest.raises(InputError, match=r"smaller than data.crop=31"):
        opened(crop=31)
