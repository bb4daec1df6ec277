"""Draws a blood smear around one lymphocyte, reactive or atypical, as light passing through stain.

Lengths are fractions of the image's side, so that a cell looks the same at 32 and at 224 pixels.
Each stain takes its share of the light (Beer-Lambert): pixel = background * exp(-sum of densities).
Red cells that overlap are therefore darker where they do, as on a slide.

`python -m lymphoml.data.smear docs/smears.png` draws the contact sheet of the documentation.
"""

import cmath
import sys
from typing import NamedTuple

import numpy as np
from PIL import Image

from lymphoml.data.lymphocyte import cover, draw_traits, lymphocyte

Array = np.ndarray

BACKGROUND = np.array([251, 236, 208], np.float32)  # red, green, blue of clear plasma
DENSITY = np.array(
    [
        [0.35, 0.45, 0.27],  # haemoglobin: grey pink
        [0.72, 0.63, 0.16],  # cytoplasm: sky blue
        [1.50, 1.85, 0.80],  # chromatin: dark purple
    ],
    np.float32,
)


class Slide(NamedTuple):
    """What the cells of one patient share: staining, light and how crowded the red cells are."""

    background: Array  # red, green, blue
    density: Array  # as DENSITY
    pallor: float  # of the red cells' centres
    spacing: float  # between red cells


def draw_slide(rng: np.random.Generator) -> Slide:
    """Mild differences of staining between patients, alike for both labels."""
    return Slide(
        background=BACKGROUND * (1 + 0.005 * rng.standard_normal(3, np.float32)),
        density=DENSITY * np.exp(0.06 * rng.standard_normal((3, 1), np.float32)),
        pallor=rng.uniform(0.4, 0.95),
        spacing=rng.uniform(0.235, 0.3),
    )


def draw_smear(size: int, atypical: bool, slide: Slide, rng: np.random.Generator) -> Array:
    """One image of `size` pixels a side, uint8 (size, size, 3), its lymphocyte in the centre."""
    traits = draw_traits(atypical, rng)
    axis = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
    blur = max(0.8 / size, rng.uniform(0.005, 0.012))  # no edge is sharper than the focus

    thickness, clearance = _red_cells(axis, 1.12 * traits["nucleus"], blur, slide, rng)
    haemoglobin, blue, purple = -slide.density
    log_light = np.multiply.outer(haemoglobin, thickness)  # (3, size, size)
    if rng.random() < 0.4:
        rows, columns, grain = _platelet(axis, rng)
        log_light[:, rows, columns] += np.multiply.outer(purple, grain)

    near = _window(axis, 0.0, 1.4 * (traits["nucleus"] + max(traits["rim"], 0.02)))
    cytoplasm, nucleus, cell = lymphocyte(axis[near], clearance[near, near], blur, traits, rng)
    log_light[:, near, near] *= 1 - cell
    log_light[:, near, near] += np.multiply.outer(blue, cytoplasm)
    log_light[:, near, near] += np.multiply.outer(purple, nucleus)

    slope_x, slope_y, brightness = rng.normal(0, (0.02, 0.02, 0.015)).tolist()
    lamp = 1 + brightness + slope_x * axis + slope_y * axis[:, None]
    lamp += 0.006 * rng.standard_normal((size, size), np.float32)
    pixels = np.exp(log_light, out=log_light)
    pixels *= lamp
    pixels *= slide.background[:, None, None]
    pixels.clip(0, 255, out=pixels)
    return np.moveaxis(pixels, 0, -1).astype(np.uint8, order="C")


def _red_cells(
    axis: Array, keep_out: float, blur: float, slide: Slide, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Thickness of the red cells in each pixel, and its distance to the nearest of them."""
    thickness = np.zeros((len(axis), len(axis)), np.float32)
    clearance = np.full_like(thickness, 1.0)
    steps = np.arange(-4, 5)
    lattice = steps + 0.5 * (steps % 2)[:, None] + 0.866j * steps[:, None]  # of triangles
    centres = lattice.ravel() + 0.22 * (rng.normal(size=81) + 1j * rng.normal(size=81))
    centres = (centres + complex(*rng.random(2))) * cmath.exp(2j * cmath.pi * rng.random())
    centres *= slide.spacing
    radii = rng.normal(0.113, 0.007, 81)
    drawn = np.maximum(np.abs(centres.real), np.abs(centres.imag)) < 0.62
    drawn &= (np.abs(centres) > keep_out + radii) & (rng.random(81) < 0.82)
    for centre, radius in zip(centres[drawn].tolist(), radii[drawn].tolist(), strict=True):
        rows, columns = (_window(axis, c, 1.1 * radius + 0.04) for c in (centre.imag, centre.real))
        x, y = axis[columns] - centre.real, axis[rows, None] - centre.imag
        x, y = x * x, y * y
        squared = (x + y + rng.normal(0, 0.15) * (x - y)) / radius**2  # upright or lying ovals
        inside = (1 - np.sqrt(squared)) * radius
        dent = slide.pallor * rng.uniform(0.5, 1.2) / (1 + np.square(4 * squared))
        thickness[rows, columns] += (1.05 - dent) * cover(inside, blur)
        near = clearance[rows, columns]
        np.minimum(near, -inside, out=near)
    return 1.6 * np.tanh(thickness / 1.3), clearance


def _platelet(axis: Array, rng: np.random.Generator) -> tuple[slice, slice, Array]:
    """Where a small grain lies, rows and columns, and its density there."""
    x, y, radius = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), rng.uniform(0.012, 0.03)
    rows, columns = _window(axis, y, 0.06), _window(axis, x, 0.06)
    distance = np.hypot(axis[columns] - x, axis[rows, None] - y)
    return rows, columns, 0.5 * cover(radius - distance, 0.02)


def _window(axis: Array, centre: float, reach: float) -> slice:
    return slice(*np.searchsorted(axis, (centre - reach, centre + reach)))


def contact_sheet(size: int = 144, columns: int = 8, rows: int = 2, seed: int = 0) -> Image.Image:
    """Reactive cells above, atypical ones below; a row is a patient's slide."""
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
    contact_sheet().quantize(256, kmeans=2).save(sys.argv[1])  # few hues: half the bytes
