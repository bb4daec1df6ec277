"""Maps laid over the cells that they are of, as PNG files; one colour scale for a patient."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from PIL import Image

from lymphoml.core.files import atomic_write
from lymphoml.explain.maps import spread

COLOURS, OPACITY = "RdBu_r", 0.6  # red for tumoral, blue against; faint where there is no evidence
SIDE = 224  # pixels of a picture
Array = np.ndarray


def overlay(
    image: Float[Array, "h w 3"], values: Float[Array, "h w"], largest: float
) -> Float[Array, "h w 3"]:
    """Return a grey image under a map of its size; full colour at `largest` and -`largest`."""
    share = np.clip(values / (largest or 1.0), -1, 1)
    colour = colormaps[COLOURS]((share + 1) / 2)[..., :3]
    grey = image.mean(axis=2, keepdims=True).repeat(3, axis=2)
    opacity = OPACITY * np.abs(share)[..., None]
    return (1 - opacity) * grey + opacity * colour


def draw_patient(
    folder: Path, images: Mapping[str, Array], maps: Mapping[str, Array], method: str,
    place: tuple[float, float],
) -> None:  # fmt: skip
    """Write `IMAGE.METHOD.png` for the map of each image; `images` are uint8 (h, w, 3).

    `place` is `centre_and_step` of the maps.
    """
    largest = max((float(np.abs(each).max()) for each in maps.values()), default=0.0)
    for name, values in maps.items():
        full = spread(values, *place, *images[name].shape[:2])
        mixed = 255 * overlay(images[name] / 255, full, largest)
        drawn = Image.fromarray(mixed.round().astype(np.uint8))
        with atomic_write(folder / f"{name}.{method}.png", private=True) as file:
            drawn.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "PNG")
