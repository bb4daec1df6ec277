"""One patient's images decoded, their stain normalised by a look at all of them."""

from collections.abc import Iterator

import numpy as np

from lymphoml.data.decoding import Framing, decode, open_unchanged
from lymphoml.data.parts import Source
from lymphoml.data.stain_norm import EVERY, MOST, NORMALISERS, Normaliser


class Unstained(Exception):
    """A patient's images do not show what normalisation has to know."""


def decode_patient(
    source: Source, framing: Framing, size: tuple[int, int]
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


def patient_normaliser(source: Source, framing: Framing) -> Normaliser | None:
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
