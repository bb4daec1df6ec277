"""Draws one lymphocyte, reactive or atypical: its outline, cytoplasm, nucleus and chromatin.

Lengths are fractions of the image's side. Outlines are signed distances, positive inside.
"""

import cmath

import numpy as np
from scipy.ndimage import gaussian_filter

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
