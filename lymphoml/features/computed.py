"""The rows that are computed here without any training, by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lymphoml.data.rows import RowStore
from lymphoml.features.table import Extractor, read_features

KINDS = ("morphology", "untrained")  # measured, or what an untrained network makes of each image

Images = Mapping[str, tuple[Path, ...]]


def computed(kind: str, images: Images, data: dict[str, Any]) -> tuple[RowStore, str]:
    """`read_features` of one of KINDS."""
    return read_features(images, _extractor(kind, images), data)


def _extractor(kind: str, images: Images) -> Extractor:
    # scikit-image takes a second to import, torch four.
    if kind == "morphology":
        from lymphoml.features.cells import Morphology

        return Morphology()
    from lymphoml.features.encoded import untrained

    return untrained(images)
