"""Every image decoded once: its problem, digest, perceptual hash and mean colour; duplicates."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pandas as pd

from lymphoml.audit.findings import Finding, below, count
from lymphoml.core.progress import progress_bar
from lymphoml.data import decoding
from lymphoml.data.cache import Images
from lymphoml.data.decoding import ImageProblem, Preprocessing
from lymphoml.data.image_folders import HARMLESS, Unused

CHANNELS = ["red", "green", "blue"]
REMARKS = {  # column: what, action
    "sixteen_bits": ("16 bits per channel; only the upper 8 are read", "convert them to 8 bits"),
    "animated": ("animated; only the first frame is read", "keep one frame"),
    "blank": ("a single colour", "look at them; remove those without a cell"),
}
# Of an image that cannot be used. No None: a column of floats cannot hold a hash of 64 bits.
UNKNOWN = {
    "kind": "", "problem": "", "mode": "", "digest": "", "hash": 0, "width": 0, "height": 0,
    **dict.fromkeys(CHANNELS, np.nan), **dict.fromkeys(REMARKS, False),
}  # fmt: skip

# Of 64 bits. 99 % of 300 real cells saved again (JPEG of quality 20 or 50, half size, 15 %
# brighter) differ by at most 4; of the 1.4e8 pairs of cells of two real patients none does, 98 by
# 8. Copies that are cropped, or shifted by two pixels and more, differ by 6 to 12: not found.
DISTANCE = 4
BLOCK = 256  # rows of the table of distances at a time


def examine(images: Images, root: Path, preprocessing: Preprocessing) -> pd.DataFrame:
    """Return a row per file, in the order given, read on all cores.

    Columns: `patient`, `file` (below `root`), `kind` and `problem` (empty where the image can be
    used), and of usable images `digest` (SHA-256), `hash` (perceptual, 64 bits), `mode`, `width`,
    `height`, the means `red`, `green`, `blue` (0 to 255) and the flags of REMARKS.
    """
    files = [(patient, path) for patient, paths in images.items() for path in paths]
    with progress_bar("examining images", len(files)) as bar, decoding.decoding_threads() as pool:

        def row(file: tuple[str, Path]) -> dict:
            patient, path = file
            try:
                measured = _examine_file(path, preprocessing)
            except ImageProblem as problem:
                measured = {"kind": problem.kind, "problem": problem.what}
            bar.advance()
            return UNKNOWN | {"patient": patient, "file": below(path, root)} | measured

        rows = list(pool.map(row, files))
    return pd.DataFrame(rows, columns=["patient", "file", *UNKNOWN])


def _examine_file(path: Path, preprocessing: Preprocessing) -> dict:
    content = decoding.read_image(path)
    opened = decoding.open_rgb(content)
    image = opened.image
    decoding.check_size(image.size, preprocessing)
    # Each channel's mean from the histogram: exact, and faster than summing pixels.
    counts = np.reshape(image.histogram(), (3, 256))
    means = counts @ np.arange(256) / (image.width * image.height)
    return {
        "mode": opened.mode, "sixteen_bits": opened.sixteen_bits, "animated": opened.animated,
        "blank": image.getcolors(1) is not None, "digest": hashlib.sha256(content).hexdigest(),
        "hash": int(str(imagehash.phash(image)), 16), "width": image.width, "height": image.height,
        **dict(zip(CHANNELS, means.tolist(), strict=True)),
    }  # fmt: skip


def usable(records: pd.DataFrame) -> pd.DataFrame:
    return records[records["kind"] == ""]


def sizes(records: pd.DataFrame) -> pd.Series:
    return records["width"].astype(str) + " x " + records["height"].astype(str)


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
    for size, usual, rows in _by_value(good, sizes(good) + " pixels"):
        if size != usual:
            what = f"{count(len(rows), 'image')} of {size}{_most(size, usual)}"
            yield Finding(severity, "image", what, tuple(rows["file"]), action)


def unused_findings(unused: Mapping[str, Unused]) -> Iterator[Finding]:
    """Yield a finding for each kind of unused file, with the count in each patient's folder."""
    for why, total in sorted(sum(unused.values(), Unused()).items()):
        where = (f"{patient or 'data.root'}: {each[why]:,}"
                 for patient, each in unused.items() if each[why])  # fmt: skip
        severity = "note" if why in HARMLESS else "warning"
        action = "adapt data.image_pattern, or move them, where they are the patients' images"
        what = f"{count(total, 'file')} not used: {why}"
        yield Finding(severity, "image", what, tuple(where), action)


def _by_value(records: pd.DataFrame, values: pd.Series) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield each value, the most frequent one, and the records of that value."""
    for value, rows in records.groupby(values):
        yield str(value), str(values.mode()[0]), rows


def _most(value: str, usual: str) -> str:
    return "" if value == usual else f" where most are {usual}"


def exact_duplicates(records: pd.DataFrame) -> list[dict[str, Any]]:
    """Return groups of usable files of one SHA-256, each with its files and patients."""
    good = usable(records)
    shared = good[good["digest"].duplicated(keep=False)]
    return [
        {"files": rows["file"].tolist(), "patients": sorted(set(rows["patient"]))}
        for _, rows in shared.groupby("digest", sort=False)
    ]


def near_duplicates(records: pd.DataFrame) -> list[dict[str, Any]]:
    """Return pairs of usable files, not blank, not identical, that differ by DISTANCE at most."""
    good = usable(records)
    good = good[~good["blank"].astype(bool)].drop_duplicates(["digest", "patient"])
    digests, files, patients = (good[key].to_numpy() for key in ("digest", "file", "patient"))
    return [
        {"files": [str(files[a]), str(files[b])], "distance": bits,
         "patients": sorted({str(patients[a]), str(patients[b])})}
        for a, b, bits in close_pairs(good["hash"].to_numpy(np.uint64), DISTANCE)
        if digests[a] != digests[b]
    ]  # fmt: skip


def close_pairs(hashes: np.ndarray, distance: int) -> Iterator[tuple[int, int, int]]:
    """Yield indices a < b of hashes, uint64 (n), that differ by at most `distance` bits."""
    for start in range(0, len(hashes), BLOCK):
        rows = hashes[start : start + BLOCK]
        bits = np.bitwise_count(rows[:, None] ^ hashes[None, start:])
        for a, b in np.argwhere(bits <= distance).tolist():
            if a < b:
                yield start + a, start + b, int(bits[a, b])


def duplicate_findings(
    exact: list[dict[str, Any]], near: list[dict[str, Any]], labels: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield what is across patients, where a copy gives away the label (`labels`), and within."""
    for groups, kind, one in ((exact, "identical", "group"), (near, "nearly identical", "pair")):
        across = [group for group in groups if len(group["patients"]) > 1]
        within = [group for group in groups if len(group["patients"]) == 1]
        if across:
            what = f"{count(len(across), one)} of {kind} images across patients"
            where = tuple(f"{_line(group)}: {_owners(group, labels)}" for group in across)
            action = "find the right patient and remove the other copies"
            yield Finding("warning", "duplicate", what, where, action)
        if within:
            what = f"{count(len(within), one)} of {kind} images within a patient"
            severity, action = "warning", "keep one of each"
            if groups is near:
                severity, action = "note", "check whether a cell is there twice"
            yield Finding(severity, "duplicate", what, tuple(map(_line, within)), action)


def _line(group: dict[str, Any]) -> str:
    distance = f" ({group['distance']} of 64 bits differ)" if "distance" in group else ""
    return " = ".join(group["files"]) + distance


def _owners(group: dict[str, Any], labels: Mapping[str, str]) -> str:
    return ", ".join(f"{each} ({labels.get(each, 'not in a table')})" for each in group["patients"])
