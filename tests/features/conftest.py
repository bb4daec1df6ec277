import numpy as np
import pytest
from PIL import Image

from lymphoml.data.synthetic.drawing import draw_slide, draw_smear


@pytest.fixture
def images(tmp_path):
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
def parts(tmp_path):
    """The entries in the cache, each with the time it was written at."""

    def listed():
        found = (tmp_path / "cache").glob("features/*/*.npy")
        return {path: path.stat().st_mtime_ns for path in sorted(found)}

    return listed
