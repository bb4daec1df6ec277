"""Files of features made by an enemy."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.data import feature_files
from lymphoml.data.feature_files import read_feature_file, write_feature_file
from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.synthetic.cohort import synthesize
from tests.promises.hostile import Canary, cost

IMAGES = {"P1": (Path("a/0.png"),)}
KEYS = {"patient": np.array(["P1"]), "image": np.array(["0.png"])}


def pipe(path, fired):
    os.mkfifo(path)


def pickled(path, fired):
    np.savez(path, features=np.array([[Canary(fired)]], object), **KEYS)


def pickled_names(path, fired):
    np.savez(path, features=np.ones((1, 1)), names=np.array([Canary(fired)], object), **KEYS)


def unpacks_to_gigabytes(path, fired):
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("features.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(1100):
            member.write(bytes(1 << 20))


def says_it_holds_a_billion_rows(path, fired):
    header = io.BytesIO()
    layout = {"descr": "<f8", "fortran_order": False, "shape": (1 << 40, 1 << 20)}
    np.lib.format.write_array_header_1_0(header, layout)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("features.npy", header.getvalue())


def an_array_without_archive(path, fired):
    with path.open("wb") as file:
        np.save(file, np.ones((1, 1)))


def of_three_dimensions(path, fired):
    np.savez(path, features=np.ones((1, 1, 1)), **KEYS)


def of_no_dimension(path, fired):
    np.savez(path, features=np.float32(1), **KEYS)


def named(name):
    def make(path, fired):
        np.savez(path, features=np.ones((1, 1)), names=np.array([name]), **KEYS)

    make.__name__ = f"a column called {name!r}"
    return make


def cut_short(path, fired):
    np.savez(path, features=np.ones((1, 1)), **KEYS)
    path.write_bytes(path.read_bytes()[:-30])


MADE = [pipe, pickled, pickled_names, unpacks_to_gigabytes, says_it_holds_a_billion_rows,
        an_array_without_archive, of_three_dimensions, of_no_dimension, cut_short,
        named("=cmd()"), named("\x1b[2J"), named("a\nb"), named("\u202eevil")]  # fmt: skip


@pytest.mark.promise(
    "a file of features that blocks, unpickles, unpacks to gigabytes, lies of its size, or names "
    "columns with formulas and escape sequences",
    "one line; nothing runs, hangs or grows",
)
@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_a_hostile_file_is_one_line(make, tmp_path):
    path, fired = tmp_path / "rows.npz", tmp_path / "fired"
    make(path, fired)
    with pytest.raises(InputError) as caught:
        read_feature_file(path, IMAGES)
    (line,) = caught.value.problems
    assert line.isprintable()
    assert "rows.npz" in line
    assert not fired.exists()


def test_a_file_that_unpacks_to_gigabytes_takes_no_memory(tmp_path):
    unpacks_to_gigabytes(tmp_path / "rows.npz", None)
    memory, _ = cost(
        "from lymphoml.data.feature_files import read_feature_file\n"
        "from lymphoml.core.errors import InputError\n"
        "def attack():\n"
        "    try:\n"
        "        read_feature_file(Path('rows.npz'), {})\n"
        "    except InputError:\n"
        "        pass\n",
        tmp_path,
    )
    assert memory < 100


def test_a_file_beyond_the_bound_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_files, "LARGEST", 1 << 20)
    (tmp_path / "rows.csv").write_bytes(b"patient,image,x\n" + b"P1,0.png,1\n" * 100_000)
    with pytest.raises(InputError, match="larger than 1 MiB"):
        read_feature_file(tmp_path / "rows.csv", IMAGES)


@pytest.mark.promise(
    "features of single images, in the cache or in a file of any name",
    "their owner's alone, mode 0600, whatever the umask",
)
@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_rows_are_private(suffix, tmp_path):
    before = os.umask(0)
    try:
        cohort, out = tmp_path / "cohort", tmp_path / f"mine{suffix}"
        synthesize(cohort, patients=15, test_patients=1, images=(1, 1), size=32, seed=0)
        main(["features", "cohort=synthetic", f"data.root={cohort}",
              f"data.cache={tmp_path}/cache", f"out={out}"])  # fmt: skip
    finally:
        os.umask(before)
    written = [out, *tmp_path.glob("cache/features/*/*.npy")]
    assert len(written) == 17
    assert {path.stat().st_mode & 0o777 for path in written} == {0o600}


def test_a_name_that_is_a_formula_is_not_written(tmp_path):
    store = FeatureStore({"P1": np.ones((1, 1), np.float32)}, ["=cmd()"])
    with pytest.raises(InputError, match="formula"):
        write_feature_file(tmp_path / "rows.csv", store, IMAGES)
    assert not list(tmp_path.iterdir())
