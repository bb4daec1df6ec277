"""Cache entries: an array a patient, in a file that verifies itself and is named by its content.

An entry is a `.npy` file of uint8 (m, h, w, 3), decoded images, or of float32 (m, d), feature
vectors, followed by a SHA-256 of all before; numpy ignores what follows the array. Its name is a
digest of what it was made from: other images look for another.
"""

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from lymphoml.core.errors import InputError
from lymphoml.core.files import atomic_write, sha256
from lymphoml.core.untrusted import read_bytes
from lymphoml.data.settings import DataConfig

CHUNK = 1 << 20  # bytes
MISSING = "missing"
# Python 3.11.7's parser, which numpy reads headers with, fails by chance in two threads at once
# (CPython issue 106905).
_PARSER = Lock()

Images = Mapping[str, tuple[Path, ...]]  # the image files of each patient
Shape = tuple[int, ...]


class BagSource(NamedTuple):
    """A patient's image files, and what was in them when they were hashed."""

    patient: str
    paths: tuple[Path, ...]
    digests: tuple[bytes, ...]  # SHA-256; empty for a file that cannot be read

    @classmethod
    def read(cls, patient: str, paths: tuple[Path, ...]) -> "BagSource":
        return cls(patient, paths, tuple(map(_file_digest, paths)))

    def entry(self, folder: Path) -> Path:
        """Return the path of the entry in `folder`, whose name holds all other settings."""
        content = b"".join([folder.name.encode(), *self.digests])
        return folder / f"{hashlib.sha256(content).hexdigest()[:32]}.npy"


def hash_images(images: Images) -> list[BagSource]:
    """Hash every image file of each patient."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(BagSource.read, images.keys(), images.values()))


def content_key(sources: Sequence[BagSource]) -> str:
    """Return a digest of every image's bytes and of its patient's id."""
    whole = hashlib.sha256()
    for source in sources:
        whole.update(f"{source.patient}\x1f{len(source.paths)}\x1f".encode())
        whole.update(b"".join(source.digests))
    return whole.hexdigest()


def bags_digest(data: DataConfig, images: Images) -> str:
    """Return a digest of these patients' images, or of the file of bags in their place."""
    if data.feature_file is not None and data.features.path is None:
        return sha256(data.feature_file)
    return content_key(hash_images(images))


def write_entry(path: Path, shape: Shape, images: Iterable[np.ndarray]) -> None:
    """Write each image's (h, w, 3) or (d) as it comes; an exception leaves no entry behind."""
    digest = _digest(path)
    header = io.BytesIO()
    layout = {"descr": _dtype(shape), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, layout)
    with atomic_write(path) as file:
        for piece in chain([header.getbuffer()], (image.data for image in images)):
            digest.update(piece)
            file.write(piece)
        file.write(digest.digest())


def read_entry(path: Path) -> np.ndarray:
    """Return the entry as a memory map that holds a file open; writing to it reaches no file."""
    with _PARSER:
        return np.lib.format.open_memmap(path, mode="c")  # np.load would open archives as well


def check_entry(path: Path) -> Shape | str:
    """Return the shape of an intact entry, otherwise what is wrong. Raises InputError."""
    digest = _digest(path)
    try:
        if not path.is_file():
            return "unreadable (not a file)" if path.exists() else MISSING
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            end = size - digest.digest_size
            for start in range(0, end, CHUNK):
                digest.update(file.read(min(CHUNK, end - start)))
            if file.read() != digest.digest():
                return "truncated or corrupt" if size else "empty"
        entry = read_entry(path)
        return entry.shape if entry.dtype == _dtype(entry.shape) else "of another type"
    except (ValueError, EOFError):
        return "not an array"  # whoever made it made its digest as well
    except PermissionError:
        raise foreign_entry(path) from None
    except OSError as error:
        return f"unreadable ({error.strerror})"


def foreign_entry(path: Path) -> InputError:
    """Return the error for an entry that only another user may read; it is not damaged."""
    return InputError(
        f"cache {path}: another user made it, and this account may not read it; set data.cache=DIR "
        f"to a folder of your own"
    )


def check_entries(folder: Path, sources: Sequence[BagSource]) -> list[Shape | str]:
    """Return `check_entry` of each source's entry."""

    def check(source: BagSource) -> Shape | str:
        # A file that cannot be read has no digest, and must not be left out of the name unseen.
        return check_entry(source.entry(folder)) if all(source.digests) else MISSING

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(check, sources))


@contextmanager
def cache_lock(folder: Path) -> Iterator[None]:
    """Let one process at a time into a folder, made if missing; remove a killed one's files."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"{folder}: waiting for another process that builds it", flush=True)
        lock.acquire()
    try:
        for leftover in folder.glob(".*.npy.*"):
            leftover.unlink()
        yield
    finally:
        lock.release()


def _dtype(shape: Shape) -> str:
    """Return the type, as numpy's header writes it, of pixels (m, h, w, 3) or features (m, d)."""
    return "<f4" if len(shape) == 2 else "|u1"


def _digest(path: Path) -> "hashlib._Hash":
    # Begins with the name: an entry that was copied to another's place is corrupt.
    return hashlib.sha256(path.stem.encode())


def _file_digest(path: Path) -> bytes:
    try:
        return hashlib.sha256(read_bytes(path)).digest()
    except OSError:
        return b""  # decoding will say what is wrong
