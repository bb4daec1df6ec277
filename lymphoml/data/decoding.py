"""One image file becomes pixels, or a problem that says why it cannot."""

import hashlib
import io
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
from PIL import Image
from PIL.ImageFile import ImageFile

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
    """The central `crop` x `crop` pixels, resized to `resize` x `resize`; None skips a step.

    `stain_norm` then normalizes each patient's stain: a key of `stain_normalization.NORMALIZERS`.
    """

    crop: int | None
    resize: int | None
    stain_norm: str | None = None

    @classmethod
    def of(cls, section: Any) -> "Preprocessing":
        """Return that of the section `data` or `pretrain`."""
        return cls(section.crop, section.resize, section.stain_norm)

    @property
    def name(self) -> str:
        """The name of a cache folder: all but the file that decides on an image's pixels."""
        name = f"v{VERSION},pillow={PIL.__version__},crop={self.crop},resize={self.resize}"
        if self.stain_norm:
            name += f",stain={self.stain_norm}-v{stain_normalization.VERSION}"
        return name


WHOLE = Preprocessing(crop=None, resize=None)


class ImageProblem(NamedTuple):
    """Why an image cannot be used. `kind` names no file and no number, to count images by."""

    kind: str
    what: str
    action: str = "replace the file or remove it"

    def __str__(self) -> str:
        return f"{self.what}; {self.action}"


class Opened(NamedTuple):
    """A decoded image, and what its file held."""

    image: Image.Image  # RGB
    mode: str
    sixteen_bits: bool  # a channel, of which Pillow keeps the upper eight
    animated: bool  # only the first frame is decoded


def decode_patient(
    source: BagSource, sizes: Mapping[Preprocessing, Size | None]
) -> Iterator[dict[Preprocessing, np.ndarray] | str]:
    """Yield each image, decoded once, as every one of `sizes` preprocesses it: uint8 (h, w, 3).

    A line in place of an image that cannot be used, or is not of the size (h, w) it should have;
    a single one where the patient's stain cannot be normalized. Pillow's warnings count as problems
    where the caller has turned them into errors, here and below.
    """
    try:
        normalizers = {each: patient_normalizer(source, each.stain_norm) for each in sizes}
    except ValueError as error:
        yield str(error)
        return
    for path, digest in zip(source.paths, source.digests, strict=True):
        opened = open_unchanged(path, digest)
        images = opened if isinstance(opened, ImageProblem) else _preprocessed(opened.image, sizes)
        if isinstance(images, ImageProblem):
            yield f"image {path} of patient {source.patient}: {images}"
        else:
            yield {each: normalizers[each](image) for each, image in images.items()}


def open_unchanged(path: Path, digest: bytes) -> Opened | ImageProblem:
    """Return a file's image; `digest` is the SHA-256 that the file must still have."""
    content = read_image(path)
    if isinstance(content, ImageProblem):
        return content
    if hashlib.sha256(content).digest() != digest:
        what = "changed while it was read"
        return ImageProblem(what, what, "rerun once nothing writes to it")
    return open_rgb(content)


def read_image(path: Path) -> bytes | ImageProblem:
    """Return an image file's bytes."""
    try:
        return read_bytes(path)
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        return ImageProblem("unreadable file", what, "check the file and its permissions")


def open_rgb(content: bytes) -> Opened | ImageProblem:
    """Return a file's bytes as an image, fully decoded.

    The number of pixels and the mode are checked before a pixel is decoded.
    """
    try:
        with open_image(content) as opened:
            if problem := _header_problem(opened, len(content)):
                return problem
            animated = bool(getattr(opened, "is_animated", False))
            sixteen = ";16" in str([tile[3] for tile in opened.tile])
            return Opened(opened.convert("RGB"), opened.mode, sixteen, animated)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return ImageProblem(TOO_LARGE, f"cannot be decoded ({one_line(error)})")
    except Exception as error:  # Pillow's many formats raise whatever they run into
        message = one_line(error)
        if "cannot identify" in message:
            return ImageProblem("not an image", "cannot be decoded (not an image)")
        kind = "truncated" if "truncated" in message else "cannot be decoded"
        return ImageProblem(kind, f"cannot be decoded ({message})")


def open_image(content: bytes) -> ImageFile:
    """Read the header by the parser of one of FORMATS; not a pixel is decoded."""
    return Image.open(io.BytesIO(content), formats=FORMATS)


def common_size(sources: Iterable[BagSource], preprocessing: Preprocessing) -> Size | None:
    """Return the size that all images must share, by the first that can be used; None: none can."""
    with warnings.catch_warnings(action="error"):
        sizes = (size_from_header(path, preprocessing) for each in sources for path in each.paths)
        return next(filter(None, sizes), None)


def size_from_header(path: Path, preprocessing: Preprocessing) -> Size | None:
    """Return (h, w) of what `decode_patient` will make; None where the header shows it cannot."""
    try:
        content = read_bytes(path)
        with open_image(content) as opened:
            if _header_problem(opened, len(content)) or size_problem(opened, preprocessing):
                return None
            side = preprocessing.resize or preprocessing.crop
            return (side, side) if side else (opened.height, opened.width)
    except Exception:  # as above
        return None


def patient_normalizer(source: BagSource, stain_norm: str | None) -> Normalizer:
    """Return the function that normalizes the patient's stain, fitted to its whole images.

    Raises ValueError where the images show too little stain. Images that cannot be used are left
    out: decoding reports them.
    """
    samples = []
    for path, digest in zip(source.paths, source.digests, strict=True) if stain_norm else ():
        opened = open_unchanged(path, digest)
        if isinstance(opened, Opened):
            samples.append(np.asarray(opened.image)[::EVERY, ::EVERY].reshape(-1, 3))
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


def size_problem(image: Image.Image, preprocessing: Preprocessing) -> ImageProblem | None:
    """Return why an image of this size cannot be cropped or resized."""
    (width, height), crop = image.size, preprocessing.crop
    pixels = f"{width} x {height} pixels"
    if crop is not None and min(width, height) < crop:
        what = f"{pixels}, smaller than data.crop={crop}"
        return ImageProblem(UNFIT, what, "set data.crop lower")
    if crop is None and preprocessing.resize is not None and width != height:
        return ImageProblem(UNFIT, f"{pixels}, not square", "set data.crop first")
    return None


def _preprocessed(
    image: Image.Image, sizes: Mapping[Preprocessing, Size | None]
) -> dict[Preprocessing, np.ndarray] | ImageProblem:
    images = {}
    for each, size in sizes.items():
        if problem := size_problem(image, each):
            return problem
        images[each] = pixels = np.asarray(_resized(image, each))
        if size is not None and pixels.shape[:2] != size:
            return ImageProblem(
                "of another size",
                f"{image.width} x {image.height} pixels where the first has {size[1]} x {size[0]}",
                "set data.crop or data.resize, so that all are of one size",
            )
    return images


def _resized(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    crop, resize, _ = preprocessing
    if crop is not None:
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    return image.resize((resize, resize), Image.Resampling.BICUBIC) if resize else image


def _header_problem(header: Image.Image, file_size: int) -> ImageProblem | None:
    width, height = header.size
    pixels = f"{width} x {height} pixels"
    if width * height > MAX_PIXELS:
        return ImageProblem(TOO_LARGE, f"{pixels}, more than {MAX_PIXELS}")
    if width * height > max(SMALL, file_size * DENSEST):
        return ImageProblem(TOO_LARGE, f"{pixels} in {file_size} bytes, as no photograph")
    if header.mode not in MODES:
        allowed = f"convert it to one of {', '.join(sorted(MODES))}"
        return ImageProblem("of a mode that is refused", f"mode {header.mode}, not 8 bits", allowed)
    return None
