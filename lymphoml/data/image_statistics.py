"""What a patient's images look like, whatever the model makes of them; for audit and prediction."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter
from PIL.ImageStat import Stat

from lymphoml.data.cache import Images
from lymphoml.data.decoding import ImageProblem, decoding_threads, open_rgb, read_image

SAMPLED = 8  # images of a patient, evenly spaced
SIDE = 256  # pixels: of a larger image the centre is measured
LAPLACIAN = ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=1, offset=128)
STATISTICS = ("brightness", "saturation", "size", "focus")


def image_statistics(images: Images) -> pd.DataFrame:
    """Return the mean of each of STATISTICS over SAMPLED images, a row a patient; NaN without any.

    brightness  mean luma, 0 to 255
    saturation  mean of HSV's, 0 to 1
    size        root of the number of pixels in the file
    focus       standard deviation of the luma's Laplacian, cut at 128: low where images are blurred
    """
    with decoding_threads() as pool:
        rows = list(pool.map(_measure_patient, images.values()))
    return pd.DataFrame(rows, index=list(images), columns=list(STATISTICS), dtype=float)


def _measure_patient(paths: tuple[Path, ...]) -> list[float]:
    return mean_statistics([partial(read_image, path) for path in paths])


def mean_statistics(files: Sequence[Callable[[], bytes]]) -> list[float]:
    """Return the mean of each of STATISTICS over SAMPLED of a patient's files, in their order."""
    measured = []
    for read in files[:: -(-len(files) // SAMPLED) or 1]:
        try:
            measured.append(measure(open_rgb(read()).image))
        except ImageProblem:  # whoever decodes all of them reports it
            continue
    means = np.mean(measured, axis=0) if measured else np.full(len(STATISTICS), np.nan)
    return means.round(4).tolist()


def measure(image: Image.Image) -> tuple[float, ...]:
    """Return STATISTICS of an RGB image."""
    left, top = max(0, image.width - SIDE) // 2, max(0, image.height - SIDE) // 2
    centre = image.crop((left, top, image.width - left, image.height - top))
    luma = centre.convert("L")
    focus = 0.0
    if min(luma.size) > 2:
        edges = luma.filter(LAPLACIAN).crop((1, 1, luma.width - 1, luma.height - 1))
        focus = Stat(edges).stddev[0]
    saturation = Stat(centre.convert("HSV").getchannel("S")).mean[0] / 255
    return Stat(luma).mean[0], saturation, (image.width * image.height) ** 0.5, focus
