"""Every image of a cohort decoded once, kept on disk, and shared by folds, jobs and cohorts."""

import hashlib
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from rich import get_console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lymphoml.core.errors import InputError, RuntimeFailure, cache_refusal
from lymphoml.data.cache import (
    MISSING,
    FileStat,
    Shape,
    Source,
    check_part,
    open_part,
    part_bytes,
    stamp,
    write_entry,
)
from lymphoml.data.decoding import Preprocessing, Unstained, decode_patient, size_from_header

# The parts that an image store lacks are decoded, once, whoever else wants them too.

Size = tuple[int, int]


def complete(sources: Sequence[Source], folder: Path, framing: Preprocessing) -> Size:
    """Build the parts that `folder` lacks or holds damaged; (h, w) of all images.

    Raises InputError with a line for each image that cannot be used, and a line where the folder
    cannot take the parts: RuntimeFailure where that is the machine's fault. Good patients' parts stay,
    whatever is wrong with the others'.
    """
    found = _check(sources, folder)
    size = _first_size(sources, found, framing)
    lacking = _unusable(sources, found, size)
    if not lacking:
        return size
    try:
        with locked(folder):  # whoever held it before has built some of them
            found = _check(lacking, folder)
            _tell_damage(found)
            _build(_unusable(lacking, found, size), folder, framing, size)
    except OSError as error:
        need = decimal(_need(lacking, size))
        raise cache_refusal(f"image store {folder}", error, need) from None
    return size


def _check(sources: Sequence[Source], folder: Path) -> list[Shape | str]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda source: _state(source, folder), sources))


def _state(source: Source, folder: Path) -> Shape | str:
    # A file that cannot be read has no digest, and must not be left out of the name unseen.
    if not all(source.digests):
        return MISSING
    state = check_part(source.part(folder))
    return state if isinstance(state, str) or state[0] == len(source.paths) else "of another length"


def _first_size(
    sources: Sequence[Source], found: Sequence[Shape | str], framing: Preprocessing
) -> Size:
    """The size that all images must share, by the first that can be used; 0 x 0 without any."""
    with warnings.catch_warnings(action="error"):
        for source, state in zip(sources, found, strict=True):
            if not isinstance(state, str):
                return state[1], state[2]
            for path in source.paths:
                if size := size_from_header(path, framing):
                    return size
    return 0, 0


def _unusable(sources: Sequence[Source], found: Sequence[Shape | str], size: Size) -> list[Source]:
    # An intact part of another size is among them: decoding again names each of its images.
    pairs = zip(sources, found, strict=True)
    return [source for source, state in pairs if isinstance(state, str) or state[1:3] != size]


def _tell_damage(found: Sequence[Shape | str]) -> None:
    reasons = Counter(state for state in found if isinstance(state, str) and state != MISSING)
    if reasons:
        listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        print(f"image store: damaged parts are built anew: {listed}")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time in a folder of parts, made where there is none.

    The system frees the lock of one that dies; what it had begun to write is removed.
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


def _need(sources: Sequence[Source], size: Size) -> int:
    return sum(part_bytes((len(source.paths), *size, 3)) for source in sources)


def _build(sources: Sequence[Source], folder: Path, framing: Preprocessing, size: Size) -> None:
    if not sources:
        return
    need, free = _need(sources, size), shutil.disk_usage(folder).free
    images = sum(len(source.paths) for source in sources)
    print(
        f"image store {folder}: decoding {images:,} images, {decimal(need)} "
        f"({need:,} bytes); {decimal(free)} free there",
        flush=True,
    )
    if need > free:
        raise RuntimeFailure(
            f"image store {folder} needs {decimal(need)}, only {decimal(free)} are free there; "
            f"make room, or set data.cache=DIR to another folder"
        )
    # Filters are the whole process's: set once around the threads, never within them.
    with (
        warnings.catch_warnings(action="error"),
        progress_bar() as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        task = bar.add_task("decoding images", total=images)

        def build(source: Source) -> list[str]:
            return _build_part(source, folder, framing, size, tick=lambda: bar.advance(task))

        problems = [problem for told in pool.map(build, sources) for problem in told]
    if problems:
        raise InputError(shortened(problems))


def progress_bar() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    off = not get_console().is_terminal  # a log file would get an empty line of it
    return Progress(*columns, TimeRemainingColumn(), transient=True, disable=off)


def _build_part(
    source: Source, folder: Path, framing: Preprocessing, size: Size, tick: Callable[[], None]
) -> list[str]:
    """Write a part if all of its images can be used; what is wrong with those that cannot."""
    problems = []

    def images() -> Iterator[np.ndarray]:
        for image in decode_patient(source, framing, size):
            if isinstance(image, str):
                problems.append(image)
            else:
                yield image
            tick()
        if problems:
            raise InputError(problems)

    try:
        write_entry(source.part(folder), (len(source.paths), *size, 3), images())
    except InputError:
        return problems
    except Unstained as error:
        return [str(error)]
    return []


def shortened(problems: list[str], most: int = 20) -> list[str]:
    rest = len(problems) - most
    return problems if rest <= 0 else [*problems[:most], f"... and {rest} more images like these"]


Images = Mapping[str, tuple[Path, ...]]  # each patient's files


class ImageStore:
    """The decoded images of each patient, uint8 (m, h, w, 3), read from disk as they are used.

    `size` is (h, w). A store holds no pixels and no open files, so it is cheap to send to workers.
    """

    def __init__(self, folder: Path, sources: Sequence[Source], size: tuple[int, int]):
        self.size = size
        self._folder = folder
        self._parts = {each.patient: (each.part(folder).name, len(each.paths)) for each in sources}
        self._stamps: dict[str, FileStat | None] = {
            patient: stamp(folder / name) for patient, (name, _) in self._parts.items()
        }

    def bag(self, patient: str) -> np.ndarray:
        """A memory map, not a copy. It holds a file open for as long as it lives.

        Raises RuntimeFailure where the part is no longer what it was: to read a map of a file that was
        cut short would kill the process.
        """
        path = self._folder / self._parts[patient][0]
        if stamp(path) != self._stamps[patient] or self._stamps[patient] is None:
            self._check_again(patient, path)
        return open_part(path)

    def _check_again(self, patient: str, path: Path) -> None:
        """Another job may have built the part anew, to the same bytes."""
        now = stamp(path)
        if isinstance(state := check_part(path), str):
            raise RuntimeFailure(
                f"patient {patient}: the decoded images {path} are {state} since the run began; "
                f"the same command decodes them again and goes on"
            )
        self._stamps[patient] = now

    def length(self, patient: str) -> int:
        return self._parts[patient][1]

    @property
    def patients(self) -> list[str]:
        return list(self._parts)

    @property
    def lengths(self) -> list[int]:
        return [length for _, length in self._parts.values()]


def read_images(images: Images, data: dict[str, Any]) -> tuple[ImageStore, str]:
    """The store of each patient's images under a configuration's `data`, and their content key.

    Decodes those that `data.cache` lacks. Raises InputError with a line for each image that cannot
    be used, or one where the cache cannot take them.
    """
    sources = hash_images(images)
    framing = Preprocessing(data["crop"], data["resize"], data["stain_norm"])
    folder = Path(data["cache"]).expanduser() / "images" / framing.name
    size = complete(sources, folder, framing)
    return ImageStore(folder, sources, size), content_key(sources)


def hash_images(images: Images) -> list[Source]:
    """Every image file of each patient, hashed."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(Source.read, images.keys(), images.values()))


def content_key(sources: Sequence[Source]) -> str:
    """A digest of every image's bytes and of whose it is: one changed bit changes it."""
    whole = hashlib.sha256()
    for source in sources:
        whole.update(f"{source.patient}\x1f{len(source.paths)}\x1f".encode())
        whole.update(b"".join(source.digests))
    return whole.hexdigest()
