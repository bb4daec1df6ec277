"""Files of features and MIL benchmarks, damaged or made by an enemy."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.data import feature_files
from lymphoml.data.feature_files import read_feature_file
from lymphoml.data.mil_table import read_bags
from lymphoml.data.problems import DataError
from lymphoml.data.synthetic.cohort import synthesize
from tests.data.mil_files import SUFFIXES, draw_mil_bags, write_mil_bags
from tests.promises.jobs import ROOT, Canary, cost, one_line, problem, python

IMAGES = {"P1": (Path("a/0.png"),)}
KEYS = {"patient": np.array(["P1"]), "image": np.array(["0.png"])}
ONE = np.ones((1, 1))


def array_without_archive(path):
    with path.open("wb") as file:
        np.save(file, ONE)


def unpacks_to_gigabytes(path):
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("features.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(1100):
            member.write(bytes(1 << 20))


def says_it_has_a_billion_rows(path):
    header = io.BytesIO()
    layout = {"descr": "<f8", "fortran_order": False, "shape": (1 << 40, 1 << 20)}
    np.lib.format.write_array_header_1_0(header, layout)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("features.npy", header.getvalue())


def member(layout, content=b""):
    """An archive whose array `patient` has this header, above this content."""

    def write(path):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"fortran_order": False} | layout)
        np.savez(path, features=ONE, image=KEYS["image"])
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("patient.npy", header.getvalue() + content)

    return write


def short_rows(path):
    """In 4 MB, a table of 10^12 cells: pandas fills up the rows that end early."""
    header = ",".join(f"x{number}" for number in range(300_000))
    path.write_text(f"patient,fold,{header}\n" + "a\n" * 1_000_000)


def cut_short(path):
    np.savez(path, features=ONE, **KEYS)
    path.write_bytes(path.read_bytes()[:-30])


def archive(**arrays):
    return lambda path: np.savez(path, **KEYS | arrays)


def canary(path):
    return np.array([[Canary(path.parent / "fired")]], object)


FEATURES = {
    "pipe": os.mkfifo,
    "pickled": lambda path: archive(features=canary(path))(path),
    "pickled names": lambda path: archive(features=ONE, names=canary(path)[0])(path),
    "a billion rows": says_it_has_a_billion_rows,
    "items of no bytes": member({"descr": "<U0", "shape": (1 << 40,)}),
    "fields of no bytes": member({"descr": [("a", "V0")], "shape": (1 << 40,)}),
    "a text more than its bytes": member({"descr": "<U1", "shape": (2,)}, bytes(4)),
    "texts of a byte": member({"descr": "|S1", "shape": (1 << 26,)}, bytes(1 << 26)),
    "no archive": array_without_archive,
    "three dimensions": archive(features=ONE[None]),
    "cut short": cut_short,
    "another length": archive(features=np.eye(2)),
    **{repr(name): archive(features=ONE, names=np.array([name]))
       for name in ("=cmd()", "\x1b[2J")},
}  # fmt: skip


@pytest.mark.parametrize("name", FEATURES)
def test_a_hostile_file_is_one_line(name, tmp_path):
    """a file of features that blocks, unpickles, lies of its size, or names columns with formulas
    and escape sequences → one line; nothing runs, hangs or grows"""
    path = tmp_path / "rows.npz"
    FEATURES[name](path)
    assert "rows.npz" in problem(lambda: read_feature_file(path, IMAGES))
    assert not (tmp_path / "fired").exists()


def test_a_file_beyond_the_bound_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_files, "LARGEST", 1 << 20)
    (tmp_path / "rows.csv").write_bytes(b"patient,image,x\n" + b"P1,0.png,1\n" * 100_000)
    with pytest.raises(InputError, match="larger than 1 MiB"):
        read_feature_file(tmp_path / "rows.csv", IMAGES)


def test_rows_are_private(tmp_path):
    """features of single images, in the cache or in a file of any name → their owner's alone, mode
    0600, whatever the umask"""
    before, cohort = os.umask(0), tmp_path / "cohort"
    try:
        synthesize(cohort, patients=15, test_patients=1, images=(1, 1), size=32, seed=0)
        for name in ("mine.csv", "mine.npz"):
            main(["features", "cohort=synthetic", f"data.root={cohort}",
                  f"data.cache={tmp_path}/cache", f"out={tmp_path}/{name}"])  # fmt: skip
    finally:
        os.umask(before)
    written = [*tmp_path.glob("mine.*"), *tmp_path.glob("cache/features/*/*.npy")]
    assert len(written) == 18
    assert {path.stat().st_mode & 0o777 for path in written} == {0o600}


BENCHMARKS = {
    "pickled.npz": lambda path: np.savez(path, bag=canary(path)[0], label=[1], features=ONE),
    "no archive.npz": array_without_archive,
    "a million columns.csv": lambda path: path.write_text(
        f"bag,label,{','.join(f'x{number}' for number in range(1_000_000))}\n1,1,1\n"),
    "a long number.csv": lambda path: path.write_text(f"bag,label,x\na,1,{'1' * (1 << 20)}x\n"),
    "pipe.csv": os.mkfifo,
}  # fmt: skip


CODE = f"""
import pytest
from lymphoml.core.errors import InputError
from lymphoml.data.feature_files import read_feature_file
from lymphoml.data.mil_table import read_bags
from lymphoml.runs.run_folder import read_predictions_csv
def attack():
    for name in {[*BENCHMARKS, "gigabytes.npz", "short.csv"]}:
        with pytest.raises(InputError) as caught:
            if "short" in name: read_predictions_csv(Path(name))
            else: read_feature_file(Path(name), {{}}) if "giga" in name else read_bags(Path(name))
        (problem,) = caught.value.problems
        assert len(problem) < 400
"""


@pytest.mark.slow
def test_a_hostile_benchmark_is_one_line(tmp_path):
    """a MIL benchmark that blocks, unpickles, or has a row of a million cells; features of a few
    megabytes that unpack to gigabytes; short rows below a long header → one line; nothing runs,
    hangs, grows or crashes"""
    for name, make in BENCHMARKS.items():
        make(tmp_path / name)
    unpacks_to_gigabytes(tmp_path / "gigabytes.npz")
    short_rows(tmp_path / "short.csv")
    memory, seconds = cost(CODE, tmp_path)
    assert memory < 600
    assert seconds < 30
    assert not (tmp_path / "fired").exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_damage_is_reported_or_harmless(suffix, count, tmp_path):
    """a MIL benchmark with a byte changed, a part cut off, or a part put in, at a drawn place →
    read as it is, or refused with file and row: nothing else is raised"""
    content = write_mil_bags(tmp_path / f"set{suffix}", draw_mil_bags(6)).read_bytes()
    random, refused = np.random.default_rng(0), 0
    path = tmp_path / f"damaged{suffix}"
    for _ in range(count):
        place, end = sorted(random.integers(0, len(content), 2))
        byte = bytes(random.integers(0, 256, 1, np.uint8))
        damaged = [
            content[:place] + byte + content[place + 1 :],
            content[:place] + content[end:],
            content[:place] + content[place:end] + content[place:],
        ]
        path.write_bytes(damaged[random.integers(3)])
        problems = []
        try:
            read_bags(path)
        except DataError as error:
            problems = error.problems
        refused += bool(problems)
        assert all(path.name in each for each in problems)
    assert refused > count / 4


@pytest.mark.slow
def test_train_names_file_and_row(tmp_path):
    """a malformed row of a MIL benchmark, given to train.py → exit code 2, a line with file and
    row, nothing written"""
    path = write_mil_bags(tmp_path / "set.csv", draw_mil_bags(20))
    lines = path.read_text().splitlines()
    lines[6] = lines[6][:-4] + "?"
    path.write_text("\n".join(lines))
    done = python(ROOT / "train.py", "experiment=mil_table", "data.root=.",
                  f"data.table={path.name}", "logger=none", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 2
    assert f"{path.name}, row 7: " in one_line(done.stderr)
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]
