import hashlib

import numpy as np
import pytest

from lymphoml.data.cache import Source, check_part, open_part, part_bytes, write_entry

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)


@pytest.fixture
def part(tmp_path):
    path = tmp_path / "0123.npy"
    write_entry(path, PIXELS.shape, iter(PIXELS))
    return path


def test_a_part_is_a_npy_file_with_a_digest_behind_it(part):
    np.testing.assert_array_equal(np.load(part), PIXELS)
    content = part.read_bytes()
    assert hashlib.sha256(b"0123" + content[:-32]).digest() == content[-32:]
    assert len(content) == part_bytes(PIXELS.shape)
    assert check_part(part) == PIXELS.shape


def test_opening_copies_nothing_and_what_is_written_reaches_no_file(part):
    bag = open_part(part)
    assert isinstance(bag, np.memmap)
    np.testing.assert_array_equal(bag, PIXELS)
    before = part.read_bytes()
    bag[:] = 0
    bag.flush()
    assert part.read_bytes() == before


def test_a_flipped_bit_or_a_truncation_anywhere_is_found(part):
    whole = part.read_bytes()
    for position in range(0, len(whole), 9):
        spoiled = bytearray(whole)
        spoiled[position] ^= 1 << position % 8
        part.write_bytes(spoiled)
        assert check_part(part) == "truncated or corrupted"
        part.write_bytes(whole[:position])
        assert check_part(part) == ("truncated or corrupted" if position else "empty")
    part.write_bytes(whole + b"\0")
    assert check_part(part) == "truncated or corrupted"


def test_a_part_in_anothers_place_is_found(part):
    other = part.with_name("4567.npy")
    other.write_bytes(part.read_bytes())
    assert check_part(other) == "truncated or corrupted"
    assert check_part(part.with_name("89.npy")) == "missing"
    part.with_name("folder.npy").mkdir()
    assert check_part(part.with_name("folder.npy")).startswith("unreadable")


def test_images_that_fail_midway_leave_nothing(tmp_path):
    def failing():
        yield PIXELS[0]
        raise KeyError

    with pytest.raises(KeyError):
        write_entry(tmp_path / "0123.npy", PIXELS.shape, failing())
    assert not list(tmp_path.iterdir())


def test_a_parts_name_tells_bytes_order_and_framing_but_not_whose_it_is(images, tmp_path):
    first, second = images["P1"]
    names = {
        Source.read("P1", paths).part(tmp_path / folder).name
        for paths in ((first,), (first, second), (second, first))
        for folder in ("crop=8", "crop=9")
    }
    assert len(names) == 6
    assert Source.read("other", (first,)).part(tmp_path / "crop=8").name in names
