"""Cache entries: an array a patient, in a file that verifies itself and is named by its content.

An entry is a `.npy` file of uint8 (m, h, w, 3), decoded images, or of float32 (m, d), feature
vectors, followed by a SHA-256 of all before; numpy ignores what follows the array. Its name is a
digest of what it was made from, so it never goes stale: the same images find it, other images look
for another. An interrupted build resumes, a changed image rebuilds its patient's entry alone,
corrupt entries are rebuilt, one process builds at a time.
"""

import hashlib
import io
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from rich.filesize import decimal

from lymphoml.core.errors import InputError, RuntimeFailure, cache_error
from lymphoml.core.files import atomic_write
from lymphoml.core.untrusted import read_bytes
from lymphoml.data.problems import shortened

CHUNK = 1 << 20  # bytes
MISSING = "missing"

Images = Mapping[str, tuple[Path, ...]]  # the image files of each patient
Shape = tuple[int, ...]
Build = Callable[[list["BagSource"]], Iterable[str]]
FileStat = tuple[int, int, int]  # inode, bytes, time of the last change in ns


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


# One entry


def write_entry(path: Path, shape: Shape, images: Iterable[np.ndarray]) -> None:
    """Write each image's (h, w, 3) or (d) as it comes; an exception leaves no entry behind."""
    digest = _digest(path)
    with atomic_write(path) as file:
        for piece in chain([_header(shape)], (image.data for image in images)):
            digest.update(piece)
            file.write(piece)
        file.write(digest.digest())


def read_entry(path: Path) -> np.ndarray:
    """Return the entry as a memory map, which holds a file open for as long as it lives.

    Writing to the map reaches no file: torch takes only what is writable without a copy.
    """
    return np.load(path, mmap_mode="c")


def check_entry(path: Path) -> Shape | str:
    """Return the shape of an intact entry, otherwise what is wrong with it."""
    digest = _digest(path)
    buffer = memoryview(bytearray(CHUNK))
    try:
        if path.exists() and not path.is_file():
            return "unreadable (not a file)"
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            left = size - digest.digest_size
            while left > 0 and (read := file.readinto(buffer[:left])):
                digest.update(buffer[:read])
                left -= read
            if left or file.read() != digest.digest():
                return "truncated or corrupt" if size else "empty"
        entry = read_entry(path)
        return entry.shape if entry.dtype == _dtype(entry.shape) else "of another type"
    except (ValueError, EOFError):
        return "not an array"  # whoever made it made its digest as well
    except FileNotFoundError:
        return MISSING
    except OSError as error:
        return f"unreadable ({error.strerror})"


def file_stat(path: Path) -> FileStat | None:
    """Return what changes once something writes to the file or replaces it; None: it is gone."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


# Building


def build_missing(
    folder: Path,
    sources: Sequence[BagSource],
    item: Shape,
    build: Build,
    states: Sequence[Shape | str] | None = None,
) -> None:
    """Build the entries that are not intact, one process at a time.

    `item` is the shape of one image's array; `states` are those of `check_entries`, where they are
    known. `build` writes the entries of the sources it is given, and returns a line for each image
    that cannot be used. Raises InputError with these lines, or where the folder cannot be written;
    RuntimeFailure where that is the machine's fault.
    """
    missing = _incomplete(sources, states or check_entries(folder, sources), item)
    if not missing:
        return
    problems: list[str] = []
    try:
        with cache_lock(folder):  # whoever held it before has built some of them
            states = check_entries(folder, missing)
            _report_corrupt(folder, states)
            if missing := _incomplete(missing, states, item):
                _check_space(folder, missing, item)
                problems += build(missing)
    except OSError as error:
        raise cache_error(f"cache {folder}", error, decimal(_bytes(missing, item))) from None
    if problems:
        raise InputError(shortened(problems, "images like these"))


def check_entries(folder: Path, sources: Sequence[BagSource]) -> list[Shape | str]:
    """Return `check_entry` of each source's entry."""

    def check(source: BagSource) -> Shape | str:
        # A file that cannot be read has no digest, and must not be left out of the name unseen.
        return check_entry(source.entry(folder)) if all(source.digests) else MISSING

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(check, sources))


@contextmanager
def cache_lock(folder: Path) -> Iterator[None]:
    """Let one process at a time into a folder, which is made where there is none.

    The system releases the lock of a killed process; its temporary files are removed.
    """
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


def _incomplete(
    sources: Sequence[BagSource], states: Sequence[Shape | str], item: Shape
) -> list[BagSource]:
    pairs = zip(sources, states, strict=True)
    return [source for source, state in pairs if state != (len(source.paths), *item)]


def _bytes(sources: Sequence[BagSource], item: Shape) -> int:
    return sum(_entry_bytes((len(source.paths), *item)) for source in sources)


def _check_space(folder: Path, sources: Sequence[BagSource], item: Shape) -> None:
    need, free = _bytes(sources, item), shutil.disk_usage(folder).free
    images = sum(len(source.paths) for source in sources)
    print(
        f"cache {folder}: building {images:,} images, {decimal(need)}; {decimal(free)} free",
        flush=True,
    )
    if need > free:
        raise RuntimeFailure(
            f"cache {folder} needs {decimal(need)}, only {decimal(free)} are free there; make "
            f"room, or set data.cache=DIR to another folder"
        )


def _report_corrupt(folder: Path, states: Sequence[Shape | str]) -> None:
    reasons = Counter(state for state in states if isinstance(state, str) and state != MISSING)
    if reasons:
        listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        print(f"cache {folder}: rebuilding corrupt entries: {listed}")


def _dtype(shape: Shape) -> str | None:
    """Return the type, as numpy's header writes it, of pixels (m, h, w, 3) or features (m, d)."""
    return "<f4" if len(shape) == 2 else "|u1" if len(shape) == 4 and shape[3] == 3 else None


def _entry_bytes(shape: Shape) -> int:
    item = np.dtype(_dtype(shape)).itemsize
    return len(_header(shape)) + item * math.prod(shape) + hashlib.sha256().digest_size


def _header(shape: Shape) -> memoryview:
    header = io.BytesIO()
    layout = {"descr": _dtype(shape), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, layout)
    return header.getbuffer()


def _digest(path: Path) -> "hashlib._Hash":
    # Begins with the name: an entry that was copied to another's place is corrupt.
    return hashlib.sha256(path.stem.encode())


def _file_digest(path: Path) -> bytes:
    try:
        return hashlib.sha256(read_bytes(path)).digest()
    except OSError:
        return b""  # decoding will say what is wrong
