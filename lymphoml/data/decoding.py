"""One image file becomes pixels, or a line that says why it cannot."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from PIL import Image
from PIL.ImageFile import ImageFile

from lymphoml.core.errors import one_line
from lymphoml.core.untrusted import read_bytes
from lymphoml.data import stain_normalization
from lymphoml.data.cache import Source
from lymphoml.data.stain_normalization import EVERY, MOST, NORMALISERS, Normaliser

VERSION = 2  # of the pixels that this file makes, and of the parts that hold them
MODES = {"RGB", "RGBA", "L", "P"}  # 8 bits a channel; 16-bit files would silently turn white
MAX_PIXELS = 64_000_000
SMALL = 4_000_000  # pixels that any file may open at; a larger image takes a byte each DENSEST
DENSEST = 100
# Pillow knows forty more, some of which start other programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")


class Preprocessing(NamedTuple):
    """The central `crop` x `crop` pixels, made `resize` x `resize`; None leaves a step out.

    `stain_norm` then makes each patient's stain alike, a key of `stain_normalization.NORMALISERS`.
    """

    crop: int | None
    resize: int | None
    stain_norm: str | None = None

    @property
    def name(self) -> str:
        """Names whatever decides on the pixels beside the file: Pillow's versions differ a bit."""
        name = f"v{VERSION},pillow={PIL.__version__},crop={self.crop},resize={self.resize}"
        stain = (
            f",stain={self.stain_norm}-v{stain_normalization.VERSION}" if self.stain_norm else ""
        )
        return name + stain


class Opened(NamedTuple):
    """A decoded image, and what its file held."""

    image: Image.Image  # RGB
    mode: str
    sixteen_bits: bool  # a channel, of which Pillow keeps the upper eight
    animated: bool  # only the first frame is decoded


def decode(
    path: Path, digest: bytes, framing: Preprocessing, size: tuple[int, int]
) -> np.ndarray | str:
    """The image as uint8 (*size, 3), or what is wrong with it, from the header where that tells.

    `digest` is the SHA-256 that the file must still have. Pillow's warnings count as wrong where
    the caller has made them errors.
    """
    opened = open_unchanged(path, digest, framing)
    if isinstance(opened, str):
        return opened
    image = opened.image
    pixels = np.asarray(_frame(image, framing))
    if pixels.shape[:2] != size:
        return (
            f"{image.width} x {image.height} pixels where the first has {size[1]} x {size[0]}; "
            f"set data.crop or data.resize, so that all are of one size"
        )
    return pixels


def open_unchanged(path: Path, digest: bytes, framing: Preprocessing) -> Opened | str:
    """The file's image before it is framed, or what is wrong; `digest` as above."""
    try:
        content = read_bytes(path)
    except OSError as error:
        return f"cannot be read ({error.strerror}); check the file and its permissions"
    if hashlib.sha256(content).digest() != digest:
        return "changed while it was read; start again once nothing writes to it"
    return open_rgb(content, framing)


def open_rgb(content: bytes, framing: Preprocessing) -> Opened | str:
    """A file's bytes as an image, fully decoded, or what is wrong with it.

    Size and mode are checked before a pixel is decoded. Warnings count as above.
    """
    try:
        with open_image(content) as opened:
            if refusal := _refusal(opened, framing, len(content)):
                return refusal
            animated = bool(getattr(opened, "is_animated", False))
            sixteen = ";16" in str([tile[3] for tile in opened.tile])
            return Opened(opened.convert("RGB"), opened.mode, sixteen, animated)
    except Exception as error:  # Pillow's many formats raise whatever they run into
        told = one_line(error)
        reason = "not an image" if "cannot identify" in told else told
        return f"cannot be decoded ({reason}); replace the file or remove it"


def open_image(content: bytes) -> ImageFile:
    """Its header read, by the parser of one of FORMATS; not a pixel is decoded."""
    return Image.open(io.BytesIO(content), formats=FORMATS)


def size_from_header(path: Path, framing: Preprocessing) -> tuple[int, int] | None:
    """(h, w) of what `decode` will make; None where the header tells that it will refuse."""
    try:
        content = read_bytes(path)
        with open_image(content) as opened:
            side = framing.resize or framing.crop
            size = (side, side) if side else (opened.height, opened.width)
            return None if _refusal(opened, framing, len(content)) else size
    except Exception:  # as above
        return None


def _frame(image: Image.Image, framing: Preprocessing) -> Image.Image:
    crop, resize, _ = framing
    if crop is not None:
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    if resize is not None:
        image = image.resize((resize, resize), Image.Resampling.BICUBIC)
    return image


def _refusal(header: Image.Image, framing: Preprocessing, file_size: int) -> str | None:
    width, height = header.size
    if width * height > MAX_PIXELS:
        return f"{width} x {height} pixels; at most {MAX_PIXELS} allowed"
    if width * height > max(SMALL, file_size * DENSEST):
        return f"{width} x {height} pixels in {file_size} bytes, as no photograph has"
    if header.mode not in MODES:
        return f"mode {header.mode}; 8-bit {', '.join(sorted(MODES))} are allowed"
    if framing.crop is not None:
        if min(width, height) < framing.crop:
            return f"{width} x {height} pixels are smaller than data.crop={framing.crop}"
    elif framing.resize is not None and width != height:
        return f"{width} x {height} pixels are no square; set data.crop first"
    return None


# One patient's images decoded, their stain normalised by a look at all of them.


class Unstained(Exception):
    """A patient's images do not show what normalisation has to know."""


def decode_patient(
    source: Source, framing: Preprocessing, size: tuple[int, int]
) -> Iterator[np.ndarray | str]:
    """Each image as uint8 (*size, 3), or a line that says why it cannot be used.

    Raises Unstained.
    """
    normalise = patient_normaliser(source, framing)
    for path, digest in zip(source.paths, source.digests, strict=True):
        image = decode(path, digest, framing, size)
        if isinstance(image, str):
            yield f"image {path} of patient {source.patient}: {image}"
        else:
            yield image if normalise is None else normalise(image)


def patient_normaliser(source: Source, framing: Preprocessing) -> Normaliser | None:
    """As `framing.stain_norm` asks for, None for none; by the whole images, whatever the crop.

    Images that cannot be used are left out: decoding tells of them. Raises Unstained.
    """
    if framing.stain_norm is None:
        return None
    samples = []
    for path, digest in zip(source.paths, source.digests, strict=True):
        opened = open_unchanged(path, digest, framing)
        if not isinstance(opened, str):
            samples.append(np.asarray(opened.image)[::EVERY, ::EVERY].reshape(-1, 3))
    if not samples:
        return None
    pixels = np.concatenate(samples)
    try:
        return NORMALISERS[framing.stain_norm](pixels[:: 1 + len(pixels) // MOST])
    except ValueError as error:
        raise Unstained(
            f"patient {source.patient}: {error}, too little for "
            f"data.stain_norm={framing.stain_norm}; remove the patient, or set data.stain_norm=null"
        ) from None
