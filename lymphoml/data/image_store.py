"""Every image of a cohort decoded once, kept on disk, shared by folds, jobs and cohorts."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from rich.filesize import decimal

from lymphoml.core.errors import InputError, RuntimeFailure, cache_error
from lymphoml.core.progress import progress_bar
from lymphoml.data import cache as entries
from lymphoml.data.cache import MISSING, BagSource, Images, Shape, content_key, hash_images
from lymphoml.data.decoding import (
    Preprocessing,
    Size,
    common_size,
    decode_patient,
    decoding_threads,
)
from lymphoml.data.problems import shortened

States = Sequence[Shape | str]
FileStat = tuple[int, int, int]  # inode, bytes, time of the last change in ns


class ImageStore:
    """The decoded images of each patient, uint8 (m, h, w, 3), on disk; `size` is (h, w)."""

    def __init__(self, folder: Path, sources: Sequence[BagSource], size: Size):
        self.size = size
        self._folder = folder
        self._entries = {each.patient: each.entry(folder).name for each in sources}
        self.patients = [each.patient for each in sources]
        self.lengths = [len(each.paths) for each in sources]  # images of each
        self._stats: dict[str, FileStat | None] = {
            patient: _file_stat(folder / name) for patient, name in self._entries.items()
        }

    @property
    def shape(self) -> Shape:
        """That of all images together."""
        return (sum(self.lengths), *self.size, 3)

    def bag(self, patient: str) -> np.ndarray:
        """Return a memory map. Raises RuntimeFailure where the entry has changed since."""
        path = self._folder / self._entries[patient]
        stat = _file_stat(path)
        if stat is None or stat != self._stats[patient]:
            if isinstance(state := entries.check_entry(path), str):
                raise RuntimeFailure(
                    f"patient {patient}: the decoded images {path} are {state} since the run "
                    f"began; rerun the same command to decode them again and resume"
                )
            self._stats[patient] = stat  # another job has rebuilt the entry, to the same bytes
        return entries.read_entry(path)


def read_images(images: Images, preprocessing: Preprocessing, cache: str) -> tuple[ImageStore, str]:
    """Decode what the cache lacks; return store and key. Raises InputError, RuntimeFailure."""
    sources = hash_images(images)
    folder = Path(cache).expanduser() / "images" / preprocessing.name
    states = entries.check_entries(folder, sources)
    size = common_size(sources, preprocessing) or (0, 0)
    problems: list[str] = []
    # An intact entry of another size is built again, which names each of its images.
    if missing := _incomplete(sources, states, size):
        try:
            with entries.cache_lock(folder):  # whoever held it before has built some of them
                states = entries.check_entries(folder, missing)
                if missing := _incomplete(missing, states, size):
                    _announce(folder, missing, states, size)
                    problems = _decode(missing, folder, preprocessing, size)
        except OSError as error:
            raise cache_error(f"cache {folder}", error, decimal(_bytes(missing, size))) from None
    if problems:
        raise InputError(shortened(problems, "images like these"))
    return ImageStore(folder, sources, size), content_key(sources)


def _incomplete(sources: Sequence[BagSource], states: States, size: Size) -> list[BagSource]:
    pairs = zip(sources, states, strict=True)
    return [source for source, state in pairs if state != (len(source.paths), *size, 3)]


def _bytes(sources: Sequence[BagSource], size: Size) -> int:
    return sum(len(source.paths) for source in sources) * size[0] * size[1] * 3


def _announce(folder: Path, missing: Sequence[BagSource], states: States, size: Size) -> None:
    """Print what will be built. Raises RuntimeFailure where it has no room."""
    reasons = Counter(state for state in states if isinstance(state, str) and state != MISSING)
    if reasons:
        listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        print(f"cache {folder}: rebuilding corrupt entries: {listed}")
    images = sum(len(source.paths) for source in missing)
    need, free = decimal(_bytes(missing, size)), decimal(shutil.disk_usage(folder).free)
    print(f"cache {folder}: building {images:,} images, {need}; {free} free", flush=True)
    if _bytes(missing, size) > shutil.disk_usage(folder).free:
        raise RuntimeFailure(
            f"cache {folder} needs {need}, only {free} are free there; make room, or set "
            f"data.cache=DIR to another folder"
        )


def _decode(
    sources: list[BagSource], folder: Path, preprocessing: Preprocessing, size: Size
) -> list[str]:
    """Write the entries whose images can all be used; return what is wrong with the others."""

    def build(source: BagSource) -> list[str]:
        problems = []

        def images() -> Iterator[np.ndarray]:
            for image in decode_patient(source, {preprocessing: size}):
                if isinstance(image, str):
                    problems.append(image)
                else:
                    yield image[preprocessing]
                bar.advance()
            if problems:
                raise InputError(problems)

        with suppress(InputError):
            entries.write_entry(source.entry(folder), (len(source.paths), *size, 3), images())
        return problems

    total = sum(len(each.paths) for each in sources)
    with progress_bar("decoding images", total) as bar, decoding_threads() as pool:
        return [problem for problems in pool.map(build, sources) for problem in problems]


def _file_stat(path: Path) -> FileStat | None:
    """Return what changes once something writes to the file or replaces it; None: it is gone."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
