"""Every image of a cohort decoded once, kept on disk, shared by folds, jobs and cohorts."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from lymphoml.core.errors import InputError, RuntimeFailure
from lymphoml.core.progress import progress_bar
from lymphoml.data.cache import (
    BagSource,
    FileStat,
    Images,
    Shape,
    build_missing,
    check_entries,
    check_entry,
    content_key,
    file_stat,
    hash_images,
    read_entry,
    write_entry,
)
from lymphoml.data.decoding import Preprocessing, Size, common_size, decode_patient


class ImageStore:
    """The decoded images of each patient, uint8 (m, h, w, 3), read from disk as they are used.

    `size` is (h, w). A store holds no pixels and no open files, so it is cheap to send to workers.
    """

    def __init__(self, folder: Path, sources: Sequence[BagSource], size: Size):
        self.size = size
        self._folder = folder
        self._entries = {each.patient: each.entry(folder).name for each in sources}
        self._lengths = {each.patient: len(each.paths) for each in sources}
        self._stats: dict[str, FileStat | None] = {
            patient: file_stat(folder / name) for patient, name in self._entries.items()
        }

    def bag(self, patient: str) -> np.ndarray:
        """Return a memory map, not a copy. It holds a file open for as long as it lives.

        Raises RuntimeFailure where the entry is no longer what it was: reading a map of a file that
        was truncated would kill the process.
        """
        path = self._folder / self._entries[patient]
        stat = file_stat(path)
        if stat is None or stat != self._stats[patient]:
            if isinstance(state := check_entry(path), str):
                raise RuntimeFailure(
                    f"patient {patient}: the decoded images {path} are {state} since the run "
                    f"began; rerun the same command to decode them again and resume"
                )
            self._stats[patient] = stat  # another job has rebuilt the entry, to the same bytes
        return read_entry(path)

    def length(self, patient: str) -> int:
        return self._lengths[patient]

    @property
    def patients(self) -> list[str]:
        return list(self._lengths)

    @property
    def lengths(self) -> list[int]:
        return list(self._lengths.values())


def read_images(images: Images, preprocessing: Preprocessing, cache: str) -> tuple[ImageStore, str]:
    """Return the store of each patient's images, and a content key.

    Decodes those that the folder `cache` lacks. Raises InputError with a line for each image that
    cannot be used, or where the cache cannot be written. Entries of the other patients stay.
    """
    sources = hash_images(images)
    folder = Path(cache).expanduser() / "images" / preprocessing.name
    states = check_entries(folder, sources)
    size = _size(sources, states, preprocessing)

    def build(missing: list[BagSource]) -> list[str]:
        return _decode_all(missing, folder, preprocessing, size)

    # An intact entry of another size is built again, which names each of its images.
    build_missing(folder, sources, (*size, 3), build, states)
    return ImageStore(folder, sources, size), content_key(sources)


def _size(
    sources: Sequence[BagSource], states: Sequence[Shape | str], preprocessing: Preprocessing
) -> Size:
    for source, state in zip(sources, states, strict=True):
        if not isinstance(state, str) and len(state) == 4:
            return state[1], state[2]
        if size := common_size([source], preprocessing):
            return size
    return 0, 0


def _decode_all(
    sources: list[BagSource], folder: Path, preprocessing: Preprocessing, size: Size
) -> list[str]:
    # Warning filters are the whole process's: set once around the threads, never within them.
    with (
        warnings.catch_warnings(action="error"),
        progress_bar("decoding images", sum(len(each.paths) for each in sources)) as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):

        def build(source: BagSource) -> list[str]:
            return _build_entry(source, folder, preprocessing, size, bar.advance)

        return [problem for problems in pool.map(build, sources) for problem in problems]


def _build_entry(
    source: BagSource,
    folder: Path,
    preprocessing: Preprocessing,
    size: Size,
    tick: Callable[[], None],
) -> list[str]:
    """Write an entry if all of its images can be used; return what is wrong with the others."""
    problems = []

    def images() -> Iterator[np.ndarray]:
        for image in decode_patient(source, {preprocessing: size}):
            if isinstance(image, str):
                problems.append(image)
            else:
                yield image[preprocessing]
            tick()
        if problems:
            raise InputError(problems)

    try:
        write_entry(source.entry(folder), (len(source.paths), *size, 3), images())
    except InputError:
        return problems
    return []
