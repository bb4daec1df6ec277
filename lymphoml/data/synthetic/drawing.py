"""Draws a blood smear around one lymphocyte, reactive or atypical, as light passing through stain.

Lengths are fractions of the image's side, so that a cell looks the same at 32 and at 224 pixels.
Each stain takes its share of the light (Beer-Lambert): pixel = background * exp(-sum of densities).
Red cells that overlap are therefore darker where they do, as on a slide.

`python -m lymphoml.data.synthetic.drawing docs/smears.png` draws the contact sheet of the documentation.
"""

import cmath
import sys
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

# Draws one lymphocyte, reactive or atypical: its outline, cytoplasm, nucleus and chromatin.
#
# Lengths are fractions of the image's side. Outlines are signed distances, positive inside.
#

Array = np.ndarray

# What sets the two types apart: (reactive, atypical, spread of a cell around its place between).
TRAITS = {
    "nucleus": (0.124, 0.131, 0.008),  # radius
    "rim": (0.064, 0.014, 0.007),  # width of the cytoplasm around the nucleus
    "ruffle": (0.070, 0.020, 0.015),  # irregularity of the cell's outline
    "warp": (0.022, 0.045, 0.010),  # irregularity of the nucleus's outline
    "cleft": (0.02, 0.24, 0.08),  # depth of the nucleus's indentation
    "clumps": (0.10, 0.24, 0.04),  # contrast of the chromatin
    "darkness": (0.82, 1.12, 0.07),  # stain taken up by the nucleus
    "blueness": (0.42, 0.90, 0.12),  # and by the cytoplasm
    "nucleolus": (0.5, -0.4, 0.5),  # how much paler than its nucleus, where positive
}
TYPE_SPREAD = 0.18  # of a cell's place between reactive (0) and atypical (1), all traits together


def draw_traits(atypical: bool, rng: np.random.Generator) -> dict[str, float]:
    """How one cell looks: near its type's traits, now and then like the other type's."""
    place = float(atypical) + rng.normal(0, TYPE_SPREAD)
    return {
        name: low + place * (high - low) + rng.normal(0, spread)
        for name, (low, high, spread) in TRAITS.items()
    }


def lymphocyte(
    axis: Array, clearance: Array, blur: float, traits: dict[str, float], rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Densities of cytoplasm and chromatin, and the share of each pixel that the cell covers.

    Cytoplasm gives way to red cells: its outline is scalloped where `clearance` runs out.
    """
    plane = axis + 1j * axis[:, None]
    radius, rim = traits["nucleus"], max(traits["rim"], 0.006)
    stretch = rng.normal(0, 0.05) + 1j * rng.normal(0, 0.05)  # cell and nucleus are oval together
    shift = rng.uniform(0.2, 0.8) * rim * cmath.exp(2j * cmath.pi * rng.random())

    inside_nucleus = _outline(plane - shift, radius, stretch, traits["warp"], traits["cleft"], rng)
    inside_cell = _outline(plane, radius + rim, stretch, traits["ruffle"], 0.0, rng)
    inside_cell = np.maximum(np.minimum(inside_cell, clearance), inside_nucleus + 0.005)
    nucleus, cell = cover(inside_nucleus, blur), cover(inside_cell, blur)

    edge = np.exp(-np.square(inside_cell / 0.010)) + 0.5 * np.exp(-np.square(inside_cell / 0.03))
    cytoplasm = max(traits["blueness"], 0.15) * (0.75 + 0.8 * edge)
    cytoplasm *= 1 + 0.10 * _texture(axis, 0.012, rng)

    clumps = np.tanh(_texture(axis, 0.013, rng)) + 0.4 * _texture(axis, 0.04, rng)
    chromatin = 1 + max(traits["clumps"], 0.03) * clumps
    chromatin += 0.18 * np.exp(-np.square(inside_nucleus / 0.012))  # the nuclear membrane
    if traits["nucleolus"] > 0:
        spot = shift + 0.4 * radius * cmath.exp(2j * cmath.pi * rng.random())
        chromatin -= min(0.5 * traits["nucleolus"], 0.35) * cover(0.03 - abs(plane - spot), 0.02)
    chromatin *= max(traits["darkness"], 0.7)
    return (cell - nucleus).clip(0) * cytoplasm, nucleus * chromatin.clip(0.2), cell


def _outline(
    plane: Array, radius: float, stretch: complex, ripple: float, cleft: float,
    rng: np.random.Generator,
) -> Array:  # fmt: skip
    """How far each point lies inside a wavy circle around zero, negative outside."""
    distance = np.abs(plane)
    direction = plane / np.maximum(distance, 1e-6)
    wave = direction * direction
    factor = 1 + (stretch * wave).real
    for order in range(3, 8):  # Fourier series of the radius over the angle
        wave = wave * direction
        amplitude = max(ripple, 0.0) * 3 / order
        factor += (amplitude * complex(*rng.normal(0, 0.7, 2)) * wave).real
    notch = cmath.exp(2j * cmath.pi * rng.random())
    factor -= max(cleft, 0.0) * np.exp(9 * ((direction * notch).real - 1))
    return radius * factor - distance


def _texture(axis: Array, grain: float, rng: np.random.Generator) -> Array:
    """A smooth Gaussian random field of unit variance whose blobs are about `grain` wide."""
    noise = rng.standard_normal((len(axis), len(axis)), np.float32)
    pixel = axis[1] - axis[0]
    smooth = gaussian_filter(noise, 0.5 * grain / pixel, truncate=3)
    return smooth / smooth.std()


def cover(inside: Array, blur: float) -> Array:
    """Share of a pixel inside an outline, from how far its centre lies inside."""
    return np.clip(0.5 + inside / (2 * blur), 0, 1)


smear_Array = np.ndarray

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

    background: smear_Array  # red, green, blue
    density: smear_Array  # as DENSITY
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


def draw_smear(size: int, atypical: bool, slide: Slide, rng: np.random.Generator) -> smear_Array:
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
    axis: smear_Array, keep_out: float, blur: float, slide: Slide, rng: np.random.Generator
) -> tuple[smear_Array, smear_Array]:
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


def _platelet(axis: smear_Array, rng: np.random.Generator) -> tuple[slice, slice, smear_Array]:
    """Where a small grain lies, rows and columns, and its density there."""
    x, y, radius = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), rng.uniform(0.012, 0.03)
    rows, columns = _window(axis, y, 0.06), _window(axis, x, 0.06)
    distance = np.hypot(axis[columns] - x, axis[rows, None] - y)
    return rows, columns, 0.5 * cover(radius - distance, 0.02)


def _window(axis: smear_Array, centre: float, reach: float) -> slice:
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
