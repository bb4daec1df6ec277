"""Images that a cohort holds twice: identical bytes, or nearly identical pictures."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.audit.findings import Finding, count
from lymphoml.audit.images import usable

# Of 64 bits. 99 % of 300 real cells saved again (JPEG of quality 20 or 50, half size, 15 %
# brighter) differ by at most 4; of the 1.4e8 pairs of cells of two real patients none does, 98 by
# 8. Copies that are cropped, or shifted by two pixels and more, differ by 6 to 12: not found.
DISTANCE = 4
BLOCK = 256  # rows of the table of distances at a time


def exact_duplicates(records: pd.DataFrame) -> list[dict[str, Any]]:
    """Return groups of usable files of one SHA-256, each with its files and patients."""
    good = usable(records)
    shared = good[good["digest"].duplicated(keep=False)]
    return [
        {"files": rows["file"].tolist(), "patients": sorted(set(rows["patient"]))}
        for _, rows in shared.groupby("digest", sort=False)
    ]


def near_duplicates(records: pd.DataFrame, distance: int = DISTANCE) -> list[dict[str, Any]]:
    """Return pairs of usable files whose hashes differ by at most `distance` bits.

    Blank images, which all look alike, and identical files are left out.
    """
    good = usable(records)
    good = good[~good["blank"].astype(bool)].drop_duplicates(["digest", "patient"])
    digests, files, patients = (good[key].to_numpy() for key in ("digest", "file", "patient"))
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
    """Yield a finding per kind, across and within patients; `labels` has label and table of each.

    A copy in another fold or table gives away the label.
    """
    for groups, kind, one, many in (
        (exact, "identical", "group", "groups"), (near, "nearly identical", "pair", "pairs")
    ):  # fmt: skip
        across = [group for group in groups if len(group["patients"]) > 1]
        within = [group for group in groups if len(group["patients"]) == 1]
        if across:
            yield Finding(
                "warning",
                "duplicate",
                f"{count(len(across), one, many)} of {kind} images across patients",
                tuple(f"{_line(group)}: {_owners(group, labels)}" for group in across),
                "find the right patient and remove the other copies",
            )
        if within:
            yield Finding(
                "warning" if groups is exact else "note",
                "duplicate",
                f"{count(len(within), one, many)} of {kind} images within a patient",
                tuple(map(_line, within)),
                "keep one of each" if groups is exact else "check whether a cell is there twice",
            )


def _line(group: dict[str, Any]) -> str:
    distance = f" ({group['distance']} of 64 bits differ)" if "distance" in group else ""
    return " = ".join(group["files"]) + distance


def _owners(group: dict[str, Any], labels: Mapping[str, str]) -> str:
    return ", ".join(f"{each} ({labels.get(each, 'not in a table')})" for each in group["patients"])
