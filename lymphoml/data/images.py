"""Every image of a cohort decoded once, kept on disk, and shared by folds, jobs and cohorts."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from lymphoml.data.building import complete
from lymphoml.data.decoding import Framing
from lymphoml.data.parts import Source, Stamp, check_part, open_part, stamp
from lymphoml.errors import Failure

Images = Mapping[str, tuple[Path, ...]]  # each patient's files


class ImageStore:
    """The decoded images of each patient, uint8 (m, h, w, 3), read from disk as they are used.

    `size` is (h, w). A store holds no pixels and no open files, so it is cheap to send to workers.
    """

    def __init__(self, folder: Path, sources: Sequence[Source], size: tuple[int, int]):
        self.size = size
        self._folder = folder
        self._parts = {each.patient: (each.part(folder).name, len(each.paths)) for each in sources}
        self._stamps: dict[str, Stamp | None] = {
            patient: stamp(folder / name) for patient, (name, _) in self._parts.items()
        }

    def bag(self, patient: str) -> np.ndarray:
        """A memory map, not a copy. It holds a file open for as long as it lives.

        Raises Failure where the part is no longer what it was: to read a map of a file that was
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
            raise Failure(
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
    framing = Framing(data["crop"], data["resize"], data["stain_norm"])
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
