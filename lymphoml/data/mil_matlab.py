"""MATLAB files of benchmark sets, as Andrews et al. 2002 hand them out: fox_100x100_matlab.mat.

`features` (n, d), often sparse, `bag_ids` (n) whole numbers, `labels` (n) of 1 and -1 or 0, an
instance each. MATLAB 5 to 7.2; later ones are HDF5.
"""

import io
import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.io import loadmat, whosmat
from scipy.sparse import issparse

from lymphoml.data.mil_formats import Instance

KEYS = ("features", "bag_ids", "labels")
REAL = ("double", "single", "logical", "sparse", "int8", "int16", "int32", "int64", "uint8",
        "uint16", "uint32", "uint64")  # fmt: skip
HEADER, TAG = 128, 8  # bytes of the file's header, and before each variable
COMPRESSED = 15  # a variable's type: zlib


def parse_matlab(content: bytes, most: int) -> Iterator[Instance]:
    """Each instance, its row counted from 1. `most` bounds bytes, unpacked, and numbers, dense.

    Raises ValueError with what is wrong.
    """
    features, bags, labels = _variables(content, most)
    if bags.shape != labels.shape or len(features) != len(bags):
        raise ValueError(
            f"features of {len(features)} instances, {len(bags)} bag_ids and {len(labels)} labels"
        )
    for row, (values, bag, label) in enumerate(zip(features, bags, labels, strict=True), start=1):
        if not (float(bag).is_integer() and 0 <= bag < 1e15):
            raise ValueError(f"instance {row}: bag_ids must be whole numbers of 0 or more")
        if label not in (1, 0, -1):
            raise ValueError(f"instance {row}: its label is none of 1, 0 and -1")
        yield Instance(row, str(int(bag)), str(row), int(label == 1), range(len(values)), values)


def _variables(content: bytes, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    _check_size(content, most)
    try:
        listed = [each for each in whosmat(io.BytesIO(content)) if each[0] in KEYS]
    except Exception:  # whatever a foreign file makes the parser say
        raise ValueError("no MATLAB file of version 5 to 7.2") from None
    if lacking := sorted(set(KEYS) - {name for name, *_ in listed}):
        raise ValueError(f"has no variable {', '.join(lacking)}")
    for name, shape, kind in listed:  # cells in cells would end in a stack overflow
        if kind not in REAL or len(shape) != 2 or math.prod(map(int, shape)) > most:
            raise ValueError(f"{name} is no matrix of at most {most:,} real numbers")
    try:
        found: dict[str, Any] = loadmat(io.BytesIO(content), variable_names=KEYS)
        features, bags, labels = (_dense(found[key]) for key in KEYS)
    except Exception:
        raise ValueError("a variable cannot be read") from None
    return features, bags.reshape(-1), labels.reshape(-1)


def _dense(array: Any) -> np.ndarray:
    if issparse(array):
        array.check_format(full_check=True)  # an index beyond the shape would be written to
        array = array.toarray()
    if array.dtype.kind not in "biuf":
        raise ValueError
    return array.astype(float)


def _check_size(content: bytes, most: int) -> None:
    """Unpack each variable up to the bound, before anybody unpacks it whole."""
    place, room = HEADER, most
    while place + TAG <= len(content) and room > 0:
        kind, size = np.frombuffer(content, "<u4", 2, place).tolist()
        if kind == COMPRESSED:
            unpacker = zlib.decompressobj()
            try:
                packed = content[place + TAG : place + TAG + size]
                while packed and room > 0:
                    room -= len(unpacker.decompress(packed, 1 << 20))
                    packed = unpacker.unconsumed_tail
            except zlib.error:
                raise ValueError("a variable cannot be unpacked") from None
        place += TAG + size
    if room <= 0:
        raise ValueError(f"larger than {most >> 20} MiB when unpacked")
