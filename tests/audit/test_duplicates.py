"""Copies are found across patients, also re-encoded ones."""

import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from lymphoml.audit.duplicates import (
    BLOCK,
    close_pairs,
    duplicate_findings,
    exact_duplicates,
    near_duplicates,
)
from lymphoml.audit.images import examine
from lymphoml.data.decoding import Preprocessing


def smooth(seed):
    small = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC)


def test_close_pairs_are_those_of_a_loop():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, 2 * BLOCK + 7, dtype=np.uint64)
    hashes[300] = hashes[5] ^ np.uint64(0b1011)
    hashes[-1] = hashes[BLOCK]
    for distance in (0, 3, 20):
        pairs = combinations(enumerate(int(each) for each in hashes), 2)
        looped = [
            (i, j, (a ^ b).bit_count())
            for (i, a), (j, b) in pairs
            if (a ^ b).bit_count() <= distance
        ]
        assert sorted(close_pairs(hashes, distance)) == looped
    assert (5, 300, 3) in close_pairs(hashes, 3)


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
    return examine(paths, tmp_path, Preprocessing(None, None))


def test_exact_and_near(records):
    exact = exact_duplicates(records)
    assert [each["files"] for each in exact] == [
        ["P1/0.png", "P2/0.png"],
        ["P1/2.jpg", "P2/2.jpg"],
        ["P3/0.png", "P3/1.png"],
    ]
    near = near_duplicates(records)
    assert [each["files"] for each in near] == [["P1/0.png", "P3/2.jpg"], ["P2/0.png", "P3/2.jpg"]]
    assert all(each["distance"] <= 4 for each in near)


def test_findings_name_labels_and_tables(records):
    labels = {"P1": "tumoral, train", "P2": "reactive, test"}
    found = list(duplicate_findings(exact_duplicates(records), near_duplicates(records), labels))
    assert [(each.severity, each.what) for each in found] == [
        ("warning", "2 groups of identical images across patients"),
        ("warning", "1 group of identical images within a patient"),
        ("warning", "2 pairs of nearly identical images across patients"),
    ]
    assert found[0].where[0] == "P1/0.png = P2/0.png: P1 (tumoral, train), P2 (reactive, test)"
    assert "P3 (not in a table)" in found[2].where[0]
    assert not any("P1" in each.what or "P3" in each.what for each in found)
    assert found[1].where == ("P3/0.png = P3/1.png",)
