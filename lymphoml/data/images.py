"""Every image of a cohort decoded once into one uint8 file on disk, shared by folds and jobs."""

import hashlib
import os
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image
from rich.progress import track

from lymphoml.errors import InputError
from lymphoml.files import replacing

VERSION = 1  # of the decoding below; part of the key
MODES = {"RGB", "RGBA", "L", "P"}  # 8 bits a channel; 16-bit files would silently turn white
MAX_PIXELS = 64_000_000

Paths = Mapping[str, tuple[Path, ...]]


class ImageStore:
    """The decoded images of each patient, uint8 (m, h, w, 3), read from disk as they are used."""

    def __init__(self, path: Path, lengths: Mapping[str, int]):
        self.path = path
        ends = np.cumsum(list(lengths.values())).tolist()
        self._spans = dict(zip(lengths, zip([0, *ends[:-1]], ends, strict=True), strict=True))

    @cached_property
    def _images(self) -> np.ndarray:
        return np.load(self.path, mmap_mode="r")

    def __getstate__(self) -> dict:
        # A pickled memory map is a copy of all its data; workers open the file themselves.
        return {key: value for key, value in vars(self).items() if key != "_images"}

    @property
    def size(self) -> tuple[int, int]:
        return self._images.shape[1:3]

    def bag(self, patient: str) -> np.ndarray:
        start, end = self._spans[patient]
        return self._images[start:end]

    def length(self, patient: str) -> int:
        start, end = self._spans[patient]
        return end - start


def read_images(images: Paths, data: dict[str, Any]) -> tuple[ImageStore, str]:
    """The store of these images under a configuration's `data`, and their content key."""
    key = content_key(images)
    cache = Path(data["cache"]).expanduser()
    return open_store(images, key, cache, data["crop"], data["resize"]), key


def content_key(images: Paths) -> str:
    """A digest of every image's bytes and of whose it is: one changed bit changes it."""
    flat = [path for paths in images.values() for path in paths]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = iter(list(pool.map(_digest, flat)))
    whole = hashlib.sha256()
    for patient, paths in images.items():
        whole.update(f"{patient}\x1f{len(paths)}\x1f".encode())
        for _ in paths:
            whole.update(next(digests))
    return whole.hexdigest()


def open_store(
    images: Paths, key: str, cache: Path, crop: int | None, resize: int | None
) -> ImageStore:
    """The store of these images, decoded now unless `cache` has it.

    `key` is their `content_key`; `crop` and `resize` are pixels a side, the crop central and
    first. Raises InputError with a line for each image that cannot be used.
    """
    name = hashlib.sha256(f"{VERSION} {crop} {resize} {key}".encode()).hexdigest()[:24]
    path = cache / f"images-{name}.npy"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            _decode_all(images, path, crop, resize)
    return ImageStore(path, {patient: len(paths) for patient, paths in images.items()})


def _decode_all(images: Paths, path: Path, crop: int | None, resize: int | None) -> None:
    flat = [(patient, image) for patient, paths in images.items() for image in paths]
    problems: list[str] = []
    # Filters are the whole process's: set once around the threads, never within them.
    with (
        warnings.catch_warnings(action="error"),
        ThreadPoolExecutor(os.cpu_count()) as pool,
        replacing(path) as file,
    ):
        decoded = pool.map(lambda pair: _decode(pair[1], crop, resize), flat)
        shape: tuple[int, ...] | None = None
        for (patient, image), result in zip(flat, _progress(decoded, len(flat)), strict=True):
            if isinstance(result, str):
                problems.append(f"image {image} of patient {patient}: {result}")
                continue
            if shape is None:
                shape = result.shape
                header = {"descr": "|u1", "fortran_order": False, "shape": (len(flat), *shape)}
                np.lib.format.write_array_header_1_0(file, header)
            if result.shape != shape:
                problems.append(
                    f"image {image} of patient {patient}: {result.shape[1]} x {result.shape[0]} "
                    f"pixels where the first has {shape[1]} x {shape[0]}; set data.crop or "
                    f"data.resize, so that all are of one size"
                )
            elif not problems:
                file.write(result.tobytes())
        if problems:
            raise InputError(_shortened(problems))


def _decode(path: Path, crop: int | None, resize: int | None) -> np.ndarray | str:
    """The image as uint8 (h, w, 3), or what is wrong with it."""
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                return f"{opened.width} x {opened.height} pixels; at most {MAX_PIXELS} allowed"
            if opened.mode not in MODES:
                return f"mode {opened.mode}; 8-bit {', '.join(sorted(MODES))} are allowed"
            image = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError) as error:
        reason = "not an image" if "cannot identify" in str(error) else " ".join(str(error).split())
        return f"cannot be decoded ({reason}); replace the file or remove it"
    if crop is not None:
        if min(image.size) < crop:
            return f"{image.width} x {image.height} pixels are smaller than data.crop={crop}"
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    if resize is not None:
        if image.width != image.height:
            return f"{image.width} x {image.height} pixels are no square; set data.crop first"
        image = image.resize((resize, resize), Image.Resampling.BICUBIC)
    return np.asarray(image)


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _progress(results: Iterable, total: int) -> Iterable:
    return track(results, "decoding images", total=total, transient=True)


def _shortened(problems: list[str], most: int = 20) -> list[str]:
    rest = len(problems) - most
    return problems if rest <= 0 else [*problems[:most], f"... and {rest} more images like these"]
