"""Benchmark sets of multiple-instance learning, damaged or made by an enemy."""

import os
import struct
import zlib

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_matrix

from lymphoml.core.errors import InputError
from lymphoml.data.mil_table import read_bags
from tests.data.mil_files import SUFFIXES, draw_mil_bags, write_mil_bags
from tests.promises.hostile import Canary, cost, one_line, python
from tests.promises.table import ROOT

MATRIX, INT8, INT32, UINT32, COMPRESSED = 14, 1, 5, 6, 15  # types of a MATLAB file
CELL = 1


def element(kind, content):
    padding = -len(content) % 8
    return struct.pack("<II", kind, len(content)) + content + bytes(padding)


def matlab_header():
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def cells_in_cells(path):
    head = (
        element(UINT32, struct.pack("<II", CELL, 0))
        + element(INT32, struct.pack("<ii", 1, 1))
        + element(INT8, b"features")
    )
    depth = 200_000
    sizes = (len(head) * (left + 1) + 8 * left for left in reversed(range(depth)))
    levels = (struct.pack("<II", MATRIX, size) + head for size in sizes)
    path.write_bytes(matlab_header() + b"".join(levels))


def unpacks_to_gigabytes(path):
    packer, packed = zlib.compressobj(1), b""
    for _ in range(1100):
        packed += packer.compress(bytes(1 << 20))
    packed += packer.flush()
    path.write_bytes(matlab_header() + struct.pack("<II", COMPRESSED, len(packed)) + packed)


def beyond_its_shape(path):
    features = csc_matrix(np.eye(3))
    features.indices = np.array([0, 1, 1 << 30], np.int32)
    savemat(path, {"features": features, "bag_ids": [[1, 1, 2]], "labels": [[1, 1, -1]]})


def of_terabytes(path):
    empty = csc_matrix((1 << 20, 1 << 20))
    savemat(path, {"features": empty, "bag_ids": [[1]], "labels": [[1]]})


def a_row_of_a_billion(path):
    path.write_text("".join(f"{i}:{i}:1 99999999:1\n" for i in range(1000)))


def a_number_of_a_megabyte(path):
    path.write_text(f"a,1,{'1' * (1 << 20)}x,1.\n")


def a_million_indices(path):
    pairs = " ".join(f"{i}:1" for i in range(1, 1_000_000))
    path.write_text(f"1:1:1 {pairs}\n2:2:2 {pairs}\n")


def pipe(path):
    os.mkfifo(path)


def pickled(path):
    np.save(path.with_suffix(".npy"), np.array([Canary(path.parent / "fired")], object))
    path.with_suffix(".npy").rename(path)


MADE = {cells_in_cells: ".mat", unpacks_to_gigabytes: ".mat", beyond_its_shape: ".mat",
        of_terabytes: ".mat", pickled: ".mat", a_row_of_a_billion: ".svm",
        a_million_indices: ".svm", a_number_of_a_megabyte: ".data", pipe: ".csv"}  # fmt: skip


@pytest.mark.promise(
    "a benchmark set that blocks, unpacks to gigabytes, nests cells in cells, points beyond its "
    "shape, or has a row of a billion features",
    "one line; nothing runs, hangs, grows or crashes",
)
@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_a_hostile_set_is_one_line(make, tmp_path):
    path = tmp_path / f"set{MADE[make]}"
    make(path)
    memory, seconds = cost(
        "from lymphoml.data.mil_table import read_bags\n"
        "from lymphoml.core.errors import InputError\n"
        "def attack():\n"
        "    try:\n"
        f"        read_bags(Path({path.name!r}))\n"
        "    except InputError as error:\n"
        "        (line,) = error.problems\n"
        "        assert line.isprintable() and len(line) < 400\n"
        "    else:\n"
        "        raise AssertionError('was taken')\n",
        tmp_path,
    )
    assert memory < 600
    assert seconds < 30
    assert not (tmp_path / "fired").exists()


def problems_of(path):
    try:
        read_bags(path)
    except InputError as error:
        return error.problems
    return ()


@pytest.mark.promise(
    "a benchmark set with a byte changed, a part cut off, or a part put in, at a drawn place",
    "read as it is, or refused with file and row: nothing else is raised",
)
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_damage_is_told_or_harmless(suffix, count, tmp_path, record_property):
    content = write_mil_bags(tmp_path / f"set{suffix}", draw_mil_bags(6)).read_bytes()
    random, refused = np.random.default_rng(0), 0
    path = tmp_path / f"damaged{suffix}"
    for _ in range(count):
        place, end = sorted(random.integers(0, len(content), 2))
        byte = bytes(random.integers(0, 256, 1, np.uint8))
        path.write_bytes(
            [
                content[:place] + byte + content[place + 1 :],
                content[:place] + content[end:],
                content[:place] + content[place:end] + content[place:],
            ][random.integers(3)]
        )
        problems = problems_of(path)
        refused += bool(problems)
        assert all(path.name in line and line.isprintable() for line in problems)
    assert refused > count / 4
    record_property("tried", count)


@pytest.mark.promise(
    "a malformed row of a benchmark set, given to train.py",
    "exit code 2, a line with file and row, nothing written",
)
@pytest.mark.parametrize("suffix", [".data", ".svm", ".csv"])
def test_train_names_file_and_row(suffix, tmp_path):
    path = write_mil_bags(tmp_path / f"set{suffix}", draw_mil_bags(20))
    lines = path.read_text().splitlines()
    lines[6] = lines[6][:-4] + "?"
    path.write_text("\n".join(lines))
    done = python(ROOT / "train.py", "experiment=mil_table", "data.root=.",
                  f"data.table={path.name}", "logger=none", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 2
    assert f"{path.name}, row 7: " in one_line(done.stderr)
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]
