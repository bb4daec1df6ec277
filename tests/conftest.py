"""Shapes are checked while the tests run, threads are few, nothing leaves the machine."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("WANDB_MODE", "offline")
# The key of the tests' pseudonyms is not the user's.
os.environ["XDG_CONFIG_HOME"] = _config = tempfile.mkdtemp(prefix="lymphoml-tests-")
atexit.register(shutil.rmtree, _config, ignore_errors=True)
os.environ["OMP_NUM_THREADS"] = "1"  # tests run side by side; processes that they start, too

from lymphoml.cli.environment import remove_ignored

remove_ignored()  # the program's line about these would stand before each first error

from jaxtyping import install_import_hook

install_import_hook(
    ["lymphoml.models", "lymphoml.core.types", "lymphoml.data.transforms", "lymphoml.data.bags"],
    "beartype.beartype",
)

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings
from PIL import Image

from lymphoml.data.synthetic.cohort import synthesize
from lymphoml.data.synthetic.drawing import draw_slide, draw_smear
from tests.fake_kaggle import FakeKaggle

torch.set_num_threads(1)
settings.register_profile("same_examples", derandomize=True)  # of make test; test-all looks further


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 labelled patients and 3 to predict, on disk; copy it before changing it."""
    folder = tmp_path_factory.mktemp("cohort") / "cohort"
    synthesize(folder, patients=16, test_patients=3, images=(2, 5), size=32, seed=0)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> dict[str, tuple[Path, ...]]:
    """Three patients with 2, 1 and 3 PNGs of 32 x 32 pixels, each with a cell."""
    paths = {}
    for number, (patient, count) in enumerate((("P1", 2), ("P10", 1), ("P2", 3))):
        folder = tmp_path / "cohort" / patient
        folder.mkdir(parents=True)
        paths[patient] = tuple(folder / f"{i}.png" for i in range(count))
        rng = np.random.default_rng(number)
        slide = draw_slide(rng)
        for path in paths[patient]:
            Image.fromarray(draw_smear(32, number % 2 == 0, slide, rng)).save(path)
    return paths


@pytest.fixture
def entries(tmp_path: Path) -> Callable[[], dict[Path, int]]:
    """Lists the entries in the cache, each with the time it was written at."""

    def listed() -> dict[Path, int]:
        found = (tmp_path / "cache").glob("*/*/*.npy")
        return {path: path.stat().st_mtime_ns for path in sorted(found)}

    return listed


@pytest.fixture
def patients() -> pd.DataFrame:
    """40 labelled patients, 12 reactive; two pairs of records are of one person each."""
    ids = [f"P{number}" for number in np.random.default_rng(0).permutation(40)]
    table = pd.DataFrame({"label": [0] * 12 + [1] * 28, "group": range(40)}, index=ids)
    table.iloc[1, 1] = table.iloc[0, 1]
    table.iloc[30, 1] = table.iloc[2, 1]
    return table


@pytest.fixture(scope="session")
def few_trees() -> Iterator[None]:
    from tests.promises.jobs import two_trees

    with two_trees():
        yield


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKaggle]:
    """A stand-in for Kaggle's server, which the real client talks to: about 2 s a command."""
    with FakeKaggle().serving() as server:
        for name, value in server.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
            monkeypatch.delenv(name, raising=False)
        yield server
