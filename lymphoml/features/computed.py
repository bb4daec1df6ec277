"""The rows that are computed here, none of them with labels, by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lymphoml.data.rows import RowStore
from lymphoml.errors import InputError
from lymphoml.features.table import Extractor, read_features

PRETRAINED = "pretrained"  # on images alone
KINDS = ("morphology", "untrained", PRETRAINED)  # measured, or what such a network makes of images

Images = Mapping[str, tuple[Path, ...]]


class PretrainedEncoder(NamedTuple):
    """Its file, and the group `pretrain` that made it."""

    path: Path
    settings: dict[str, Any]


def computed(
    kind: str,
    images: Images,
    data: dict[str, Any],
    encoder: PretrainedEncoder | None = None,
    seed: int = 0,
) -> tuple[RowStore, str]:
    """`read_features` of one of KINDS.

    `encoder` is that of pretrained rows, `seed` that of the untrained network's weights.
    """
    return read_features(images, _extractor(kind, images, encoder, seed), data)


def _extractor(
    kind: str, images: Images, encoder: PretrainedEncoder | None, seed: int
) -> Extractor:
    # scikit-image takes a second to import, torch four.
    if kind == "morphology":
        from lymphoml.features.cells import Morphology

        return Morphology()
    from lymphoml.features.encoded import pretrained, untrained

    if kind == PRETRAINED:
        if encoder is None:
            raise InputError("model.encoder.rows: pretrained rows need the encoder of the run")
        return pretrained(*encoder)

    return untrained(images, seed)
