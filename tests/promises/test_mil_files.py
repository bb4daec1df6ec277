"""Benchmarks of multiple-instance learning, damaged or made by an enemy."""

import os

import numpy as np
import pytest

from lymphoml.data.mil_table import read_bags
from lymphoml.data.problems import DataError
from tests.data.mil_files import SUFFIXES, draw_mil_bags, write_mil_bags
from tests.promises.hostile import Canary, cost, one_line, python
from tests.promises.table import ROOT


def pickled(path):
    bag = np.array([Canary(path.parent / "fired")], object)
    np.savez(path, bag=bag, label=[1], features=np.ones((1, 1)))


def an_array_without_archive(path):
    with path.open("wb") as file:
        np.save(file, np.ones((1, 1)))


def a_row_of_a_million_columns(path):
    names = ",".join(f"x{number}" for number in range(1_000_000))
    path.write_text(f"bag,label,{names}\n1,1,1\n")


def a_number_of_a_megabyte(path):
    path.write_text(f"bag,label,x\na,1,{'1' * (1 << 20)}x\n")


def pipe(path):
    os.mkfifo(path)


MADE = {
    pickled: ".npz",
    an_array_without_archive: ".npz",
    a_row_of_a_million_columns: ".csv",
    a_number_of_a_megabyte: ".csv",
    pipe: ".csv",
}


@pytest.mark.promise(
    "a MIL benchmark that blocks, unpickles, or has a row of a million cells",
    "one line; nothing runs, hangs, grows or crashes",
)
@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_a_hostile_benchmark_is_one_line(make, tmp_path):
    path = tmp_path / f"set{MADE[make]}"
    make(path)
    memory, seconds = cost(
        "import pytest\n"
        "from lymphoml.data.mil_table import read_bags\n"
        "from lymphoml.data.problems import DataError\n"
        "def attack():\n"
        "    with pytest.raises(DataError) as caught:\n"
        f"        read_bags(Path({path.name!r}))\n"
        "    (problem,) = caught.value.problems\n"
        "    assert problem.isprintable() and len(problem) < 400\n",
        tmp_path,
    )
    assert memory < 600
    assert seconds < 30
    assert not (tmp_path / "fired").exists()


@pytest.mark.promise(
    "a MIL benchmark with a byte changed, a part cut off, or a part put in, at a drawn place",
    "read as it is, or refused with file and row: nothing else is raised",
)
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_damage_is_reported_or_harmless(suffix, count, tmp_path, record_property):
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
        try:
            read_bags(path)
            continue
        except DataError as error:
            problems = error.problems
        refused += 1
        assert all(path.name in each for each in problems)
    assert refused > count / 4
    record_property("tried", count)


@pytest.mark.promise(
    "a malformed row of a MIL benchmark, given to train.py",
    "exit code 2, a line with file and row, nothing written",
)
@pytest.mark.slow
def test_train_names_file_and_row(tmp_path):
    path = write_mil_bags(tmp_path / "set.csv", draw_mil_bags(20))
    lines = path.read_text().splitlines()
    lines[6] = lines[6][:-4] + "?"
    path.write_text("\n".join(lines))
    done = python(ROOT / "train.py", "experiment=mil_table", "data.root=.",
                  f"data.table={path.name}", "logger=none", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 2
    assert f"{path.name}, row 7: " in one_line(done.stderr)
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]
