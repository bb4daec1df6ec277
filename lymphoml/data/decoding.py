"""One image file becomes pixels, or a problem that says why it cannot."""

import hashlib
import io
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
from PIL import Image

from lymphoml.core.cores import available_cores
from lymphoml.core.errors import one_line
from lymphoml.core.untrusted import read_bytes
from lymphoml.data import stain_normalization
from lymphoml.data.cache import BagSource
from lymphoml.data.stain_normalization import EVERY, MAX_PIXELS_FITTED, NORMALIZERS, Normalizer

VERSION = 2  # of the pixels that this file makes, and of the cache entries that hold them
MODES = {"RGB", "RGBA", "L", "P"}  # 8 bits a channel; 16-bit files would silently turn white
MAX_PIXELS = 64_000_000
SMALL = 4_000_000  # pixels that any file may open at; a larger image takes a byte each DENSEST
DENSEST = 100
# Pillow has forty more, some of which start other programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")

Size = tuple[int, int]  # height, width
TOO_LARGE, UNFIT = "too many pixels", "of a size that data.crop does not take"


class Preprocessing(NamedTuple):
    """The central `crop` x `crop` pixels, resized to `resize` x `resize`, the stain normalized."""

    crop: int | None
    resize: int | None
    stain_norm: str | None = None
    min_side: int = 1  # pixels, as they are in the file

    @classmethod
    def of(cls, section: Any) -> "Preprocessing":
        """Return that of the section `data` or `pretrain`."""
        return cls(section.crop, section.resize, section.stain_norm)

    @property
    def steps(self) -> str:
        stain = f",stain={self.stain_norm}-v{stain_normalization.VERSION}"
        return f"crop={self.crop},resize={self.resize}{stain if self.stain_norm else ''}"

    @property
    def name(self) -> str:
        """The name of a cache folder: all but the file that decides on an image's pixels."""
        return f"v{VERSION},pillow={PIL.__version__},{self.steps}"


WHOLE = Preprocessing(crop=None, resize=None)


class ImageProblem(Exception):
    """Why an image cannot be used. `kind` names no file and no number, to count images by."""

    def __init__(self, kind: str, what: str, action: str = "replace the file or remove it"):
        super().__init__(f"{what}; {action}")
        self.kind, self.what = kind, what


class Opened(NamedTuple):
    """A decoded image, and what its file held."""

    image: Image.Image  # RGB
    mode: str
    sixteen_bits: bool  # a channel, of which Pillow keeps the upper eight
    animated: bool  # only the first frame is decoded


@contextmanager
def decoding_threads() -> Iterator[ThreadPoolExecutor]:
    """Yield threads in which warnings are errors: filters are the process's, so set around all."""
    with warnings.catch_warnings(action="error"), ThreadPoolExecutor(available_cores()) as pool:
        yield pool


def decode_patient(
    source: BagSource, sizes: Mapping[Preprocessing, Size | None]
) -> Iterator[dict[Preprocessing, np.ndarray] | str]:
    """Yield each image, decoded once, as each of `sizes` preprocesses it; a text says why not."""
    try:
        normalizers = {each: patient_normalizer(source, each.stain_norm) for each in sizes}
    except ValueError as error:
        yield str(error)
        return
    for path, digest in zip(source.paths, source.digests, strict=True):
        images: dict[Preprocessing, np.ndarray] | str
        try:
            image = open_unchanged(path, digest).image
            pixels = {each: _preprocessed(image, each, size) for each, size in sizes.items()}
            images = {each: normalizers[each](found) for each, found in pixels.items()}
        except ImageProblem as problem:
            images = f"image {path} of patient {source.patient}: {problem}"
        yield images


def open_unchanged(path: Path, digest: bytes) -> Opened:
    """Return a file's image; `digest` is the SHA-256 that the file must still have."""
    content = read_image(path)
    if hashlib.sha256(content).digest() != digest:
        what = "changed while it was read"
        raise ImageProblem(what, what, "rerun once nothing writes to it")
    return open_rgb(content)


def read_image(path: Path) -> bytes:
    """Return an image file's bytes. Raises ImageProblem."""
    try:
        return read_bytes(path)
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise ImageProblem("unreadable file", what, "check the file and its permissions") from None


def open_rgb(content: bytes) -> Opened:
    """Return a file's bytes as an image, its header checked, then decoded. Raises ImageProblem."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            _check_header(opened, len(content))
            animated = bool(getattr(opened, "is_animated", False))
            sixteen = ";16" in str([tile[3] for tile in opened.tile])
            return Opened(opened.convert("RGB"), opened.mode, sixteen, animated)
    except ImageProblem:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        kind, message = TOO_LARGE, one_line(error)
    except Exception as error:  # Pillow's many formats raise whatever they run into
        message = one_line(error)
        if "cannot identify" in message:
            kind = message = "not an image"
        else:
            kind = "truncated" if "truncated" in message else "cannot be decoded"
    raise ImageProblem(kind, f"cannot be decoded ({message})")


def common_size(sources: Iterable[BagSource], preprocessing: Preprocessing) -> Size | None:
    """Return the size that all images must share, by the first that can be used; None: none can."""
    with warnings.catch_warnings(action="error"):
        sizes = (size_from_header(path, preprocessing) for each in sources for path in each.paths)
        return next(filter(None, sizes), None)


def size_from_header(path: Path, preprocessing: Preprocessing) -> Size | None:
    """Return (h, w) of what `decode_patient` will make; None where the header shows it cannot."""
    try:
        content = read_bytes(path)
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            _check_header(opened, len(content))
            check_size(opened.size, preprocessing)
            side = preprocessing.resize or preprocessing.crop
            return (side, side) if side else (opened.height, opened.width)
    except Exception:  # as above
        return None


def patient_normalizer(source: BagSource, stain_norm: str | None) -> Normalizer:
    """Return what normalizes the patient's stain. Raises ValueError for too little stain."""
    samples = []
    for path, digest in zip(source.paths, source.digests, strict=True) if stain_norm else ():
        with suppress(ImageProblem):
            image = open_unchanged(path, digest).image
            samples.append(np.asarray(image)[::EVERY, ::EVERY].reshape(-1, 3))
    if not stain_norm or not samples:
        return lambda image: image
    pixels = np.concatenate(samples)
    try:
        return NORMALIZERS[stain_norm](pixels[:: 1 + len(pixels) // MAX_PIXELS_FITTED])
    except ValueError as error:
        raise ValueError(
            f"patient {source.patient}: {error}, too little for data.stain_norm={stain_norm}; "
            f"remove the patient, or set data.stain_norm=null"
        ) from None


def check_size(size: tuple[int, int], preprocessing: Preprocessing) -> None:
    """Raise ImageProblem where an image of this width and height cannot be cropped or resized."""
    (width, height), crop = size, preprocessing.crop
    pixels = f"{width} x {height} pixels"
    if min(width, height) < preprocessing.min_side:
        raise ImageProblem("too small", f"{pixels}, fewer than {preprocessing.min_side} a side")
    if crop is not None and min(width, height) < crop:
        what = f"{pixels}, smaller than data.crop={crop}"
        raise ImageProblem(UNFIT, what, "set data.crop lower")
    if crop is None and preprocessing.resize is not None and width != height:
        raise ImageProblem(UNFIT, f"{pixels}, not square", "set data.crop first")


def _preprocessed(
    image: Image.Image, preprocessing: Preprocessing, size: Size | None
) -> np.ndarray:
    check_size(image.size, preprocessing)
    crop, resize = preprocessing.crop, preprocessing.resize
    whole = f"{image.width} x {image.height} pixels"
    if crop is not None:
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    if resize is not None:
        image = image.resize((resize, resize), Image.Resampling.BICUBIC)
    if size is not None and (image.height, image.width) != size:
        what = f"{whole} where the first has {size[1]} x {size[0]}"
        action = "set data.crop or data.resize, so that all are of one size"
        raise ImageProblem("of another size", what, action)
    return np.asarray(image)


def _check_header(header: Image.Image, file_size: int) -> None:
    width, height = header.size
    pixels = f"{width} x {height} pixels"
    if width * height > MAX_PIXELS:
        raise ImageProblem(TOO_LARGE, f"{pixels}, more than {MAX_PIXELS}")
    if width * height > max(SMALL, file_size * DENSEST):
        raise ImageProblem(TOO_LARGE, f"{pixels} in {file_size} bytes, as no photograph")
    if header.mode not in MODES:
        action = f"convert it to one of {', '.join(sorted(MODES))}"
        raise ImageProblem("of a mode that is refused", f"mode {header.mode}, not 8 bits", action)
