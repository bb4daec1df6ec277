import multiprocessing
import pickle

import numpy as np
import pytest
from PIL import Image

from lymphoml.data.images import content_key, open_store
from lymphoml.errors import InputError


@pytest.fixture
def images(tmp_path):
    """Three patients with 2, 1 and 3 PNGs of 20 x 20 random pixels."""
    random, paths = np.random.default_rng(0), {}
    for patient, count in (("P1", 2), ("P10", 1), ("P2", 3)):
        (tmp_path / patient).mkdir()
        paths[patient] = tuple(tmp_path / patient / f"{i}.png" for i in range(count))
        for path in paths[patient]:
            Image.fromarray(random.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    return paths


def opened(images, tmp_path, crop=None, resize=None):
    return open_store(images, content_key(images), tmp_path / "cache", crop, resize)


def test_every_bag_holds_its_own_pixels(images, tmp_path):
    store = opened(images, tmp_path)
    for patient, paths in images.items():
        expected = np.stack([np.asarray(Image.open(path)) for path in paths])
        np.testing.assert_array_equal(store.bag(patient), expected)
    assert store.size == (20, 20)


def test_crop_is_central_and_comes_before_resize(images, tmp_path):
    cropped = opened(images, tmp_path, crop=10).bag("P10")[0]
    whole = np.asarray(Image.open(images["P10"][0]))
    np.testing.assert_array_equal(cropped, whole[5:15, 5:15])
    assert opened(images, tmp_path, crop=10, resize=7).bag("P2").shape == (3, 7, 7, 3)


def test_second_opening_decodes_nothing(images, tmp_path, monkeypatch):
    opened(images, tmp_path)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("decoded again"))
    opened(images, tmp_path)


def test_a_changed_pixel_a_moved_image_and_another_crop_change_the_key(images, tmp_path):
    before = content_key(images)
    moved = images | {"P1": images["P1"][:1], "P10": (images["P1"][1], *images["P10"])}
    assert content_key(moved) != before
    pixels = np.asarray(Image.open(images["P1"][0])).copy()
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(images["P1"][0])
    assert content_key(images) != before
    assert opened(images, tmp_path).path != opened(images, tmp_path, crop=4).path


def test_all_bad_images_are_named_and_nothing_is_left(images, tmp_path):
    images["P1"][0].write_text("not an image")
    images["P2"][1].write_bytes(images["P2"][1].read_bytes()[:200])
    Image.fromarray(np.zeros((20, 20), np.uint16)).save(images["P2"][2])
    with pytest.raises(InputError) as refused:
        opened(images, tmp_path)
    first, second, third = refused.value.problems
    assert "P1/0.png of patient P1" in first
    assert "not an image" in first
    assert "P2/1.png of patient P2" in second
    assert "I;16" in third
    assert not list((tmp_path / "cache").glob("*.npy"))
    assert not list((tmp_path / "cache").glob(".*.npy.*"))


def test_images_of_several_sizes_are_refused_until_resized(images, tmp_path):
    Image.new("RGB", (30, 30)).save(images["P10"][0])
    with pytest.raises(InputError, match=r"P10/0.png of patient P10: 30 x 30 .* data.resize"):
        opened(images, tmp_path)
    assert opened(images, tmp_path, resize=8).size == (8, 8)
    assert opened(images, tmp_path, crop=20).size == (20, 20)
    with pytest.raises(InputError, match=r"smaller than data.crop=25"):
        opened(images, tmp_path, crop=25)


def test_a_huge_header_is_refused_before_it_is_decoded(images, tmp_path):
    Image.new("1", (9000, 9000)).save(images["P10"][0])
    with pytest.raises(InputError, match="P10"):
        opened(images, tmp_path)


def test_a_pickled_store_carries_no_pixels(images, tmp_path):
    store = opened(images, tmp_path)
    store.bag("P1")
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).bag("P2"), store.bag("P2"))


def test_two_processes_build_one_store(images, tmp_path):
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=opened, args=(images, tmp_path)) for _ in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0]
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1
