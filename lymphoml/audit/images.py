"""Every image decoded once: its problems, digest, perceptual hash and mean colour."""

import hashlib
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagehash
import numpy as np
import pandas as pd
from PIL import Image

from lymphoml.audit.problems import Finding, below, count
from lymphoml.core.cores import available_cores
from lymphoml.core.progress import progress_bar
from lymphoml.data.cache import Images
from lymphoml.data.decoding import ImageProblem, Preprocessing, open_rgb, read_image

CHANNELS = ["red", "green", "blue"]
REMARKS = {  # column: what it says, what to do
    "sixteen_bits": ("16 bits a channel; only the upper 8 are read", "convert them as you want"),
    "animated": ("animated; only the first frame is read", "keep one frame"),
    "blank": ("one colour all over", "look at them; remove what shows no cell"),
}
UNKNOWN = {
    "kind": "",
    "mode": "",
    "digest": "",
    "hash": 0,
    "width": 0,
    "height": 0,
}  # of a refused image


def examine(images: Images, root: Path, framing: Preprocessing) -> pd.DataFrame:
    """A row for each file, in the order given, on all cores.

    `patient`, `file` (below `root`) and `problem` (empty where the image can be used) are known of
    all; of images that can be used also `digest` (SHA-256 of the file), `hash` (perceptual, 64
    bits), `mode`, `width`, `height`, the means `red`, `green`, `blue` (0 to 255), and what
    `REMARKS` lists.
    """
    files = [(patient, path) for patient, paths in images.items() for path in paths]
    # Filters are the whole process's: set once around the threads, never within them.
    with (
        warnings.catch_warnings(action="error"),
        progress_bar("examining images", len(files)) as bar,
        ThreadPoolExecutor(available_cores()) as pool,
    ):

        def look(file: tuple[str, Path]) -> dict:
            patient, path = file
            told = _examine_file(path, framing)
            bar.advance()
            return {"patient": patient, "file": below(path, root)} | told

        rows = list(pool.map(look, files))
    # No None: it would turn whole columns into floats, which cannot hold a hash of 64 bits.
    unknown = UNKNOWN | dict.fromkeys(CHANNELS, np.nan) | dict.fromkeys(REMARKS, False)
    return pd.DataFrame(
        [unknown | row for row in rows], columns=["patient", "file", "problem", *unknown]
    )


def _examine_file(path: Path, framing: Preprocessing) -> dict:
    content = read_image(path)
    if isinstance(content, ImageProblem):
        return {"problem": str(content), "kind": content.kind}
    opened = open_rgb(content, framing)
    if isinstance(opened, ImageProblem):
        return {"problem": str(opened), "kind": opened.kind}
    image = opened.image
    return {
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
    """Of each channel, exact, by way of the histogram: faster than summing pixels."""
    counts = np.reshape(image.histogram(), (3, 256))
    means = counts @ np.arange(256) / (image.width * image.height)
    return {channel: float(mean) for channel, mean in zip(CHANNELS, means, strict=True)}


def image_findings(records: pd.DataFrame, framing: Preprocessing) -> Iterator[Finding]:
    """What would be refused in training is an error, what would be read otherwise a warning."""
    bad = records[records["problem"] != ""]
    for kind, rows in bad.groupby("kind"):
        yield Finding(
            "error",
            "image",
            f"{count(len(rows), 'image')}: {kind}",
            tuple(rows["file"] + ": " + rows["problem"]),
            "replace the files or remove them",
        )
    good = records[records["problem"] == ""]
    for remark, (what, action) in REMARKS.items():
        rows = good[good[remark].astype(bool)]
        if len(rows):
            what = f"{count(len(rows), 'image')}: {what}"
            yield Finding("warning", "image", what, tuple(rows["file"]), action)
    yield from _unusual(good, "mode", good["mode"], "warning", "stored as", "convert them alike")
    size = good["width"].astype(str) + " x " + good["height"].astype(str) + " pixels"
    fixed = framing.crop or framing.resize
    yield from _unusual(
        good, "size", size, "warning" if fixed else "error", "of",
        "check the source" if fixed else "set data.crop or data.resize: all must be of one size",
    )  # fmt: skip


def _unusual(
    records: pd.DataFrame, name: str, values: pd.Series, severity: str, verb: str, action: str
) -> Iterator[Finding]:
    """Images that differ from most; greyscale and palettes become RGB, transparency is dropped."""
    if values.empty:
        return
    usual = values.mode()[0]
    for value, rows in records.groupby(values):
        if value != usual or (name == "mode" and value != "RGB"):
            among = "" if value == usual else f" where most are {usual}"
            grey = " (greyscale)" if name == "mode" and value == "L" else ""
            what = f"{count(len(rows), 'image')} {verb} {value}{grey}{among}"
            yield Finding(severity, "image", what, tuple(rows["file"]), action)
