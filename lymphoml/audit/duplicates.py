"""Images that stand in a cohort twice: the same bytes, or pictures that are nearly the same."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.audit.problems import Finding, count

# Of 64 bits. Of 300 real cells made anew as JPEG of quality 50 or 20, at half the size or 15 %
# brighter, 99 % differ by at most 4 from themselves. Of the 1.4e8 pairs of cells of two patients of
# the real cohort (16,711 images) none differs by 4 or less, 5 by 6, 98 by 8 and 1,547 by 10: cells
# that look alike. A copy shifted by two pixels or more or cropped differs by 6 to 12 and is missed.
DISTANCE = 4
BLOCK = 256  # rows of the table of distances at a time


def exact_duplicates(records: pd.DataFrame) -> list[dict[str, Any]]:
    """Groups of usable files of one SHA-256, each with its files and patients."""
    good = records[records["problem"] == ""]
    shared = good[good["digest"].duplicated(keep=False)]
    return [
        {"files": rows["file"].tolist(), "patients": sorted(set(rows["patient"]))}
        for _, rows in shared.groupby("digest", sort=False)
    ]


def near_duplicates(records: pd.DataFrame, distance: int = DISTANCE) -> list[dict[str, Any]]:
    """Pairs of usable files whose hashes differ by at most `distance` bits, and not in bytes alone.

    Blank images, of which every two look alike, and identical bytes are left out.
    """
    good = records[(records["problem"] == "") & ~records["blank"].astype(bool)]
    good = good.drop_duplicates(["digest", "patient"])
    digests, files = good["digest"].to_numpy(), good["file"].to_numpy()
    patients = good["patient"].to_numpy()
    return [
        {
            "files": [str(files[a]), str(files[b])],
            "patients": sorted({str(patients[a]), str(patients[b])}),
            "distance": bits,
        }
        for a, b, bits in close_pairs(good["hash"].to_numpy(np.uint64), distance)
        if digests[a] != digests[b]
    ]


def close_pairs(hashes: np.ndarray, distance: int) -> Iterator[tuple[int, int, int]]:
    """Places a < b of hashes, uint64 (n), and the number of bits in which they differ."""
    for start in range(0, len(hashes), BLOCK):
        rows = hashes[start : start + BLOCK]
        bits = np.bitwise_count(rows[:, None] ^ hashes[None, start:])
        for a, b in np.argwhere(bits <= distance).tolist():
            if a < b:
                yield start + a, start + b, int(bits[a, b])


def duplicate_findings(
    exact: list[dict[str, Any]], near: list[dict[str, Any]], sides: dict[str, str]
) -> Iterator[Finding]:
    """`sides` says of each patient what a reader must know: label and table."""
    for kind, groups in (("identical", exact), ("nearly identical", near)):
        across = [group for group in groups if len(group["patients"]) > 1]
        within = [group for group in groups if len(group["patients"]) == 1]
        noun = ("group", "groups") if kind == "identical" else ("pair", "pairs")
        if across:
            yield Finding(
                "warning",
                "duplicate",
                f"{count(len(across), *noun)} of {kind} images across patients",
                tuple(f"{_line(group)}: {_sides(group, sides)}" for group in across),
                "find out whose they are; across folds or tables they give the answer away",
            )
        if within:
            yield Finding(
                "warning" if kind == "identical" else "note",
                "duplicate",
                f"{count(len(within), *noun)} of {kind} images within a patient",
                tuple(_line(group) for group in within),
                "keep one of each" if kind == "identical" else "one cell photographed twice?",
            )


def _line(group: dict[str, Any]) -> str:
    distance = f" ({group['distance']} of 64 bits differ)" if "distance" in group else ""
    return " = ".join(group["files"]) + distance


def _sides(group: dict[str, Any], sides: dict[str, str]) -> str:
    return ", ".join(f"{each} ({sides.get(each, 'not in a table')})" for each in group["patients"])
