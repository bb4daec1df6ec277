"""Every image decoded once: its problem, digest, perceptual hash and mean colour."""

import hashlib
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagehash
import numpy as np
import pandas as pd
from PIL import Image

from lymphoml.audit.findings import Finding, below, count
from lymphoml.core.cores import available_cores
from lymphoml.core.progress import progress_bar
from lymphoml.data.cache import Images
from lymphoml.data.decoding import ImageProblem, Preprocessing, open_rgb, read_image, size_problem

CHANNELS = ["red", "green", "blue"]
REMARKS = {  # column: what, action
    "sixteen_bits": ("16 bits per channel; only the upper 8 are read", "convert them to 8 bits"),
    "animated": ("animated; only the first frame is read", "keep one frame"),
    "blank": ("a single colour", "look at them; remove those without a cell"),
}
# Of an image that cannot be used. No None: a column of floats cannot hold a hash of 64 bits.
UNKNOWN = {
    "mode": "", "digest": "", "hash": 0, "width": 0, "height": 0,
    **dict.fromkeys(CHANNELS, np.nan), **dict.fromkeys(REMARKS, False),
}  # fmt: skip


def examine(images: Images, root: Path, preprocessing: Preprocessing) -> pd.DataFrame:
    """Return a row per file, in the order given, read on all cores.

    Columns: `patient`, `file` (below `root`), `kind` and `problem` (empty where the image can be
    used), and of usable images `digest` (SHA-256), `hash` (perceptual, 64 bits), `mode`, `width`,
    `height`, the means `red`, `green`, `blue` (0 to 255) and the flags of REMARKS.
    """
    files = [(patient, path) for patient, paths in images.items() for path in paths]
    # Filters belong to the whole process: set once around the threads, never within them.
    with (
        warnings.catch_warnings(action="error"),
        progress_bar("examining images", len(files)) as bar,
        ThreadPoolExecutor(available_cores()) as pool,
    ):

        def row(file: tuple[str, Path]) -> dict:
            patient, path = file
            measured = _examine_file(path, preprocessing)
            bar.advance()
            return UNKNOWN | {"patient": patient, "file": below(path, root)} | measured

        rows = list(pool.map(row, files))
    return pd.DataFrame(rows, columns=["patient", "file", "kind", "problem", *UNKNOWN])


def _examine_file(path: Path, preprocessing: Preprocessing) -> dict:
    content = read_image(path)
    if isinstance(content, ImageProblem):
        return {"kind": content.kind, "problem": content.what}
    opened = open_rgb(content)
    if isinstance(opened, ImageProblem):
        return {"kind": opened.kind, "problem": opened.what}
    image = opened.image
    if problem := size_problem(image, preprocessing):
        return {"kind": problem.kind, "problem": problem.what}
    return {
        "kind": "",
        "problem": "",
        "mode": opened.mode,
        "sixteen_bits": opened.sixteen_bits,
        "animated": opened.animated,
        "blank": image.getcolors(1) is not None,
        "digest": hashlib.sha256(content).hexdigest(),
        "hash": int(str(imagehash.phash(image)), 16),
        "width": image.width,
        "height": image.height,
    } | _means(image)


def _means(image: Image.Image) -> dict[str, float]:
    """Return each channel's mean, from the histogram: exact, and faster than summing pixels."""
    counts = np.reshape(image.histogram(), (3, 256))
    means = counts @ np.arange(256) / (image.width * image.height)
    return {channel: float(mean) for channel, mean in zip(CHANNELS, means, strict=True)}


def usable(records: pd.DataFrame) -> pd.DataFrame:
    return records[records["kind"] == ""]


def image_findings(records: pd.DataFrame, preprocessing: Preprocessing) -> Iterator[Finding]:
    """Yield an error for each kind of image that training refuses, warnings for odd ones."""
    bad, good = records[records["kind"] != ""], usable(records)
    for kind, rows in bad.groupby("kind"):
        what = f"{count(len(rows), 'image')}: {kind}"
        where = tuple(rows["file"] + ": " + rows["problem"])
        yield Finding("error", "image", what, where, "replace the files or remove them")
    for remark, (what, action) in REMARKS.items():
        rows = good[good[remark].astype(bool)]
        if len(rows):
            what = f"{count(len(rows), 'image')}: {what}"
            yield Finding("warning", "image", what, tuple(rows["file"]), action)
    # Greyscale and palettes become RGB, transparency is dropped.
    for mode, usual, rows in _by_value(good, good["mode"]):
        if mode != usual or mode != "RGB":
            grey = " (greyscale)" if mode == "L" else ""
            what = f"{count(len(rows), 'image')} stored as {mode}{grey}{_most(mode, usual)}"
            yield Finding("warning", "image", what, tuple(rows["file"]), "convert all to RGB")
    severity, action = "error", "set data.crop or data.resize: all must be of one size"
    if preprocessing.crop or preprocessing.resize:
        severity, action = "warning", "check the source"
    sizes = good["width"].astype(str) + " x " + good["height"].astype(str) + " pixels"
    for size, usual, rows in _by_value(good, sizes):
        if size != usual:
            what = f"{count(len(rows), 'image')} of {size}{_most(size, usual)}"
            yield Finding(severity, "image", what, tuple(rows["file"]), action)


def _by_value(records: pd.DataFrame, values: pd.Series) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield each value, the most frequent one, and the records of that value."""
    for value, rows in records.groupby(values):
        yield str(value), str(values.mode()[0]), rows


def _most(value: str, usual: str) -> str:
    return "" if value == usual else f" where most are {usual}"
