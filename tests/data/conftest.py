import numpy as np
import pytest
from PIL import Image

from lymphoml.data.decoding import Preprocessing
from lymphoml.data.image_store import read_images


@pytest.fixture
def images(tmp_path):
    """Three patients with 2, 1 and 3 PNGs of 20 x 20 random pixels."""
    random, paths = np.random.default_rng(0), {}
    for patient, count in (("P1", 2), ("P10", 1), ("P2", 3)):
        folder = tmp_path / "cohort" / patient
        folder.mkdir(parents=True)
        paths[patient] = tuple(folder / f"{i}.png" for i in range(count))
        for path in paths[patient]:
            Image.fromarray(random.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture
def opened(images, tmp_path):
    """Opens the store of these images, or of others."""

    def open_store(
        images=images, crop=None, resize=None, cache=tmp_path / "cache", stain_norm=None
    ):
        return read_images(images, Preprocessing(crop, resize, stain_norm), str(cache))[0]

    return open_store


@pytest.fixture
def entries(tmp_path):
    """The entries in the cache, each with the time it was written at."""

    def listed():
        found = (tmp_path / "cache").glob("images/*/*.npy")
        return {path: path.stat().st_mtime_ns for path in sorted(found)}

    return listed
