"""A part: one patient's decoded images, in a file that verifies itself.

A `.npy` of uint8 (m, h, w, 3), or of float32 (m, d) for what was measured of them, and after it a
digest of everything before; numpy takes no notice of what follows the array. The file is called by
the digest of what it was made from, so it never grows old: whoever has the same images finds it,
and other images look for another.
"""

import hashlib
import io
import math
import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lymphoml.core.files import replacing
from lymphoml.core.untrusted import read_bytes

CHUNK = 1 << 20
MISSING = "missing"
BYTES, FLOATS = "|u1", "<f4"  # of pixels, of rows, as numpy's header writes them

Shape = tuple[int, ...]
FileStat = tuple[int, int, int]  # inode, bytes, time of the last change in ns


class Source(NamedTuple):
    """A patient's image files, and what was in them when they were hashed."""

    patient: str
    paths: tuple[Path, ...]
    digests: tuple[bytes, ...]  # empty for a file that cannot be read

    @classmethod
    def read(cls, patient: str, paths: tuple[Path, ...]) -> "Source":
        return cls(patient, paths, tuple(map(_file_digest, paths)))

    def part(self, folder: Path) -> Path:
        """The part in `folder`, whose name tells all else that decides on the pixels."""
        content = b"".join([folder.name.encode(), *self.digests])
        return folder / f"{hashlib.sha256(content).hexdigest()[:32]}.npy"


def write_entry(path: Path, shape: Shape, images: Iterable[np.ndarray], dtype: str = BYTES) -> None:
    """Write images of (h, w, 3) as they come; an exception from them leaves no part behind."""
    digest = _begun(path)
    with replacing(path) as file:
        for piece in chain([_header(shape, dtype)], (image.data for image in images)):
            digest.update(piece)
            file.write(piece)
        file.write(digest.digest())


def check_part(path: Path, dtype: str = BYTES) -> Shape | str:
    """The shape of an intact part of this kind, otherwise what is wrong with it."""
    digest = _begun(path)
    buffer = memoryview(bytearray(CHUNK))
    try:
        if path.exists() and not path.is_file():
            return "unreadable (no file)"
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            left = size - digest.digest_size
            while left > 0 and (read := file.readinto(buffer[:left])):
                digest.update(buffer[:read])
                left -= read
            if left or file.read() != digest.digest():
                return "truncated or corrupted" if size else "empty"
        part = open_part(path)
        fits = part.ndim == 2 if dtype == FLOATS else part.ndim == 4 and part.shape[3] == 3
        return part.shape if fits and part.dtype == dtype else "of another shape"
    except (ValueError, EOFError):
        return "no part"  # whoever made it made its digest as well
    except FileNotFoundError:
        return MISSING
    except OSError as error:
        return f"unreadable ({error.strerror})"


def stamp(path: Path) -> FileStat | None:
    """Differs once something has written to the file, or put another in its place; None: gone."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def open_part(path: Path) -> np.ndarray:
    """The part as a memory map, which holds a file open for as long as it lives.

    Writing to it reaches no file: torch takes only what is writable without a copy or a warning.
    """
    return np.load(path, mmap_mode="c")


def part_bytes(shape: Shape) -> int:
    return len(_header(shape)) + math.prod(shape) + _begun(Path()).digest_size


def _header(shape: Shape, dtype: str = BYTES) -> memoryview:
    header = io.BytesIO()
    layout = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, layout)
    return header.getbuffer()


def _begun(path: Path) -> "hashlib._Hash":
    # With the name: a part that was copied to another's place is no part.
    return hashlib.sha256(path.stem.encode())


def _file_digest(path: Path) -> bytes:
    try:
        return hashlib.sha256(read_bytes(path)).digest()
    except OSError:
        return b""  # decoding will say what is wrong
