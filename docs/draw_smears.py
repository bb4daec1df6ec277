"""Draw docs/smears.png: `python docs/draw_smears.py`."""

from pathlib import Path

import numpy as np
from PIL import Image

from lymphoml.data.synthetic.drawing import draw_slide, draw_smear


def contact_sheet(size: int = 144, columns: int = 8, rows: int = 2, seed: int = 0) -> Image.Image:
    """Return reactive cells above, atypical ones below; a row is a patient's slide."""
    margin = size // 16
    sheet = np.full((2 * rows * size + margin, columns * size, 3), 255, np.uint8)
    for row in range(2 * rows):
        atypical = row >= rows
        rng = np.random.default_rng([seed, row])
        slide = draw_slide(rng)
        cells = [draw_smear(size, atypical, slide, rng) for _ in range(columns)]
        top = row * size + atypical * margin
        sheet[top : top + size] = np.concatenate(cells, axis=1)
    return Image.fromarray(sheet)


if __name__ == "__main__":
    # Few hues: half the bytes.
    contact_sheet().quantize(256, kmeans=2).save(Path(__file__).with_name("smears.png"))
