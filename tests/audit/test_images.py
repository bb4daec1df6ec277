"""Each kind of bad file is named, good ones are measured, copies are found."""

import hashlib
import io
import zlib
from itertools import combinations

import imagehash
import numpy as np
import pytest
from PIL import Image

from lymphoml.audit.images import (
    BLOCK,
    REMARKS,
    close_pairs,
    duplicate_findings,
    exact_duplicates,
    examine,
    image_findings,
    near_duplicates,
)
from lymphoml.data.decoding import MAX_PIXELS, Preprocessing
from tests.promises.test_hostile_images import png

WHOLE = Preprocessing(None, None)


def save(path, mode="RGB", size=(20, 20), **more):
    random = np.random.default_rng(len(path.name))
    shape = (size[1], size[0], 3)
    Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).convert(mode).save(path, **more)
    return path


@pytest.fixture
def bad(tmp_path):
    """A file of each kind beside three good ones, all of one patient."""
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / name)
    save(tmp_path / "grey.png", "L")
    save(tmp_path / "cmyk.jpg", "CMYK")
    save(tmp_path / "palette.png", "P")
    save(tmp_path / "wide.png", size=(30, 20))
    Image.fromarray(np.full((20, 20), 999, dtype=np.uint16)).save(tmp_path / "deepgrey.png")
    Image.new("RGB", (20, 20), (9, 8, 7)).save(tmp_path / "blank.png")
    frames = [Image.fromarray(np.full((20, 20, 3), [n, 2, 3], dtype=np.uint8)) for n in (1, 2)]
    frames[0].putpixel((0, 0), (255, 0, 0))
    frames[0].save(tmp_path / "animated.png", save_all=True, append_images=frames[1:])
    truncated = save(tmp_path / "truncated.jpg", size=(64, 64))
    truncated.write_bytes(truncated.read_bytes()[:900])
    (tmp_path / "text.jpg").write_text("no picture")
    assert MAX_PIXELS < 8_001 * 8_000
    for name, size in (("huge", (8_001, 8_000)), ("bomb", (20_000, 10_000))):
        Image.new("1", size).save(tmp_path / f"{name}.png")
    return [*sorted(tmp_path.iterdir()), tmp_path / "gone.png"]


def found(paths, root, preprocessing=WHOLE):
    records = examine({"P1": tuple(paths)}, root, preprocessing)
    return {each.what: each for each in image_findings(records, preprocessing)}


def test_every_kind_is_named_once(bad, tmp_path):
    findings = found(bad, tmp_path)
    assert {what: each.severity for what, each in findings.items()} == {
        "1 image: truncated": "error",
        "1 image: not an image": "error",
        "2 images: of a mode that is refused": "error",
        "2 images: too many pixels": "error",
        "1 image: unreadable file": "error",
        "1 image: animated; only the first frame is read": "warning",
        "1 image: a single colour": "warning",
        "1 image stored as L (greyscale) where most are RGB": "warning",
        "1 image stored as P where most are RGB": "warning",
        "1 image of 30 x 20 pixels where most are 20 x 20 pixels": "error",
    }
    refused = findings["2 images: of a mode that is refused"].where
    assert refused[0].startswith("cmyk.jpg: mode CMYK")
    assert refused[1].startswith("deepgrey.png: mode I;16")


def test_sixteen_bit_colour_is_reported(tmp_path):
    """Pillow opens it as RGB, and writes none."""
    deep = png(1, 1, depth=16, data=zlib.compress(bytes(7)))
    (tmp_path / "deep.png").write_bytes(deep)
    findings = found([tmp_path / "deep.png"], tmp_path)
    assert any(what.startswith("1 image: 16 bits") for what in findings)


def test_sizes_may_differ_where_they_are_made_equal(bad, tmp_path):
    some = [tmp_path / name for name in ("a.png", "b.png", "wide.png")]
    (only,) = found(some, tmp_path, Preprocessing(16, None)).values()
    assert only.severity == "warning"
    (small,) = found(some, tmp_path, Preprocessing(25, None)).values()
    assert small.what == "3 images: of a size that data.crop does not take"


def test_what_is_measured(tmp_path):
    path = save(tmp_path / "000001.png", size=(37, 23))
    (row,) = examine({"P1": (path,)}, tmp_path, WHOLE).to_dict("records")
    pixels = np.asarray(Image.open(path))
    assert [row["red"], row["green"], row["blue"]] == pytest.approx(pixels.mean(axis=(0, 1)))
    assert row["digest"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"{row['hash']:016x}" == str(imagehash.phash(Image.open(path)))
    assert (row["file"], row["width"], row["height"], row["mode"]) == ("000001.png", 37, 23, "RGB")
    assert [row[flag] for flag in ("problem", *REMARKS)] == ["", False, False, False]


def smooth(seed):
    small = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC)


def test_close_pairs_are_those_of_a_loop():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, 2 * BLOCK + 7, dtype=np.uint64)
    hashes[300] = hashes[5] ^ np.uint64(0b1011)
    hashes[-1] = hashes[BLOCK]
    pairs = combinations(enumerate(hashes.tolist()), 2)
    looped = [(i, j, (a ^ b).bit_count()) for (i, a), (j, b) in pairs]
    for distance in (0, 3, 20):
        expected = [pair for pair in looped if pair[2] <= distance]
        assert sorted(close_pairs(hashes, distance)) == expected
    assert (5, 300, 3) in looped


@pytest.fixture
def records(tmp_path):
    """Two images each; P2 also has P1's first, P3 has it re-encoded, and its own other twice."""
    paths = {}
    for patient in ("P1", "P2", "P3"):
        (tmp_path / patient).mkdir()
        paths[patient] = tuple(tmp_path / patient / name for name in ("0.png", "1.png", "2.jpg"))
    for seed, path in enumerate(each for bag in paths.values() for each in bag[:2]):
        smooth(seed).save(path)
    content = paths["P1"][0].read_bytes()
    paths["P2"][0].write_bytes(content)
    paths["P3"][1].write_bytes(paths["P3"][0].read_bytes())
    for patient in ("P1", "P2"):
        Image.new("RGB", (96, 96), "white").save(paths[patient][2])
    again = Image.open(io.BytesIO(content)).resize((80, 80)).point(lambda value: value * 0.95)
    again.save(paths["P3"][2], quality=60)
    paths["P1"] += (tmp_path / "P1" / "3.jpg",)
    paths["P1"][3].write_text("not an image: the other hashes must keep their 64 bits")
    return examine(paths, tmp_path, WHOLE)


def test_copies_are_found_across_patients_also_re_encoded_ones(records):
    exact = exact_duplicates(records)
    assert [each["files"] for each in exact] == [
        ["P1/0.png", "P2/0.png"], ["P1/2.jpg", "P2/2.jpg"], ["P3/0.png", "P3/1.png"],
    ]  # fmt: skip
    near = near_duplicates(records)
    assert [each["files"] for each in near] == [["P1/0.png", "P3/2.jpg"], ["P2/0.png", "P3/2.jpg"]]
    assert all(each["distance"] <= 4 for each in near)
    labels = {"P1": "tumoral, train", "P2": "reactive, test"}
    found = list(duplicate_findings(exact, near, labels))
    assert [(each.severity, each.what) for each in found] == [
        ("warning", "2 groups of identical images across patients"),
        ("warning", "1 group of identical images within a patient"),
        ("warning", "2 pairs of nearly identical images across patients"),
    ]
    assert found[0].where[0] == "P1/0.png = P2/0.png: P1 (tumoral, train), P2 (reactive, test)"
    assert "P3 (not in a table)" in found[2].where[0]
    assert not any("P1" in each.what or "P3" in each.what for each in found)
    assert found[1].where == ("P3/0.png = P3/1.png",)
