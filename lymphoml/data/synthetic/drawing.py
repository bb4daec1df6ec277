"""Draw a blood smear around one lymphocyte, reactive or atypical, as light through stain.

Lengths are fractions of the image's side, so that a cell looks the same at 32 and at 224 pixels.
Outlines are signed distances, positive inside. Each stain absorbs its share of the light
(Beer-Lambert): pixel = background * exp(-sum of densities), so overlapping red cells are darker.
"""

import cmath
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

Array = np.ndarray

# Of each trait: mean of reactive cells, of atypical ones, deviation of a cell.
TRAITS = {
    "nucleus": (0.124, 0.131, 0.008),  # radius
    "rim": (0.064, 0.014, 0.007),  # width of the cytoplasm around the nucleus
    "ruffle": (0.070, 0.020, 0.015),  # irregularity of the cell's outline
    "warp": (0.022, 0.045, 0.010),  # irregularity of the nucleus's outline
    "cleft": (0.02, 0.24, 0.08),  # depth of the nucleus's indentation
    "clumps": (0.10, 0.24, 0.04),  # contrast of the chromatin
    "darkness": (0.82, 1.12, 0.07),  # stain taken up by the nucleus
    "blueness": (0.42, 0.90, 0.12),  # and by the cytoplasm
    "nucleolus": (0.5, -0.4, 0.5),  # how much paler than the nucleus, where positive
}
TYPE_SPREAD = 0.18  # deviation of a cell between reactive (0) and atypical (1), all traits at once


def draw_traits(atypical: bool, rng: np.random.Generator) -> dict[str, float]:
    """Draw the traits of one cell: near its type's, sometimes like the other type's."""
    place = float(atypical) + rng.normal(0, TYPE_SPREAD)
    return {
        name: low + place * (high - low) + rng.normal(0, spread)
        for name, (low, high, spread) in TRAITS.items()
    }


def lymphocyte(
    axis: Array, clearance: Array, blur: float, traits: dict[str, float], rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Return densities of cytoplasm and chromatin, and the cell's share; red cells indent it."""
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
    """Return how far each point is inside a wavy circle around zero, negative outside."""
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
    """Return a smooth Gaussian random field of unit variance, its blobs about `grain` wide."""
    noise = rng.standard_normal((len(axis), len(axis)), np.float32)
    pixel = axis[1] - axis[0]
    smooth = gaussian_filter(noise, 0.5 * grain / pixel, truncate=3)
    return smooth / smooth.std()


def cover(inside: Array, blur: float) -> Array:
    """Return the share of a pixel inside an outline, from how far its centre is inside."""
    return np.clip(0.5 + inside / (2 * blur), 0, 1)


BACKGROUND = np.array([251, 236, 208], np.float32)  # red, green, blue of clear plasma
DENSITY = np.array([
    [0.35, 0.45, 0.27],  # haemoglobin: grey pink
    [0.72, 0.63, 0.16],  # cytoplasm: sky blue
    [1.50, 1.85, 0.80],  # chromatin: dark purple
], np.float32)  # fmt: skip


class Slide(NamedTuple):
    """What the images of one patient share: staining, light and density of red cells."""

    background: Array  # red, green, blue
    density: Array  # as DENSITY
    pallor: float  # of the red cells' centres
    spacing: float  # between red cells


def draw_slide(rng: np.random.Generator) -> Slide:
    """Draw a slide; staining differs mildly between patients, alike for both labels."""
    return Slide(
        background=BACKGROUND * (1 + 0.005 * rng.standard_normal(3, np.float32)),
        density=DENSITY * np.exp(0.06 * rng.standard_normal((3, 1), np.float32)),
        pallor=rng.uniform(0.4, 0.95), spacing=rng.uniform(0.235, 0.3),
    )  # fmt: skip


def draw_smear(size: int, atypical: bool, slide: Slide, rng: np.random.Generator) -> Array:
    """Draw an image, uint8 (size, size, 3), with its lymphocyte in the centre."""
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
    """Return the thickness of red cells in each pixel, and the distance to the nearest one."""
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
    """Return rows and columns of a small grain, and its density there."""
    x, y, radius = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), rng.uniform(0.012, 0.03)
    rows, columns = _window(axis, y, 0.06), _window(axis, x, 0.06)
    distance = np.hypot(axis[columns] - x, axis[rows, None] - y)
    return rows, columns, 0.5 * cover(radius - distance, 0.02)


def _window(axis: Array, centre: float, reach: float) -> slice:
    return slice(*np.searchsorted(axis, (centre - reach, centre + reach)))
