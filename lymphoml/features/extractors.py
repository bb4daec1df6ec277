"""The rows that are computed here, none of them with labels, by name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lymphoml.core.errors import InputError
from lymphoml.data.cache import Images, content_key, hash_images
from lymphoml.data.feature_store import FeatureStore, concat_features
from lymphoml.features.feature_cache import Extractor, read_features
from lymphoml.features.pretraining.settings import PRETRAINED

UNTRAINED = ("untrained", "untrained_layer3")
KINDS = ("morphology", *UNTRAINED, PRETRAINED)  # measured, or what such a network makes of images


class PretrainedEncoder(NamedTuple):
    """Its file, and the group `pretrain` that made it."""

    path: Path
    settings: dict[str, Any]


def computed(
    kinds: Sequence[str],
    images: Images,
    data: dict[str, Any],
    encoder: PretrainedEncoder | None = None,
    seed: int = 0,
    networks: int = 1,
) -> tuple[FeatureStore, str]:
    """The rows of some of KINDS side by side, a part each, and the images' content key.

    `encoder` is that of pretrained rows. An untrained part is of so many `networks`; those of
    another `seed` are others.
    """
    sources = hash_images(images)
    parts = []
    for kind in kinds:
        seeds = range(seed * networks, (seed + 1) * networks) if kind in UNTRAINED else [0]
        stores = [
            read_features(sources, extractor(kind, images, encoder, each), data) for each in seeds
        ]
        if len(stores) > 1:
            for each, store in zip(seeds, stores, strict=True):
                store.names = [f"network{each}_{name}" for name in store.names]
        parts.append(concat_features(stores, images))
    return concat_features(parts, images), content_key(sources)


def extractor(
    kind: str, images: Images, encoder: PretrainedEncoder | None = None, seed: int = 0
) -> Extractor:
    """What makes the rows of one of KINDS; `seed` is that of an untrained network's weights."""
    # scikit-image takes a second to import, torch four.
    if kind == "morphology":
        from lymphoml.features.morphology import Morphology

        return Morphology()
    from lymphoml.features import frozen_encoder

    if kind == PRETRAINED:
        if encoder is None:
            raise InputError("model.encoder.rows: pretrained rows need the encoder of the run")
        return frozen_encoder.pretrained(*encoder)
    if kind == "untrained":
        return frozen_encoder.untrained(images, seed)
    return frozen_encoder.untrained_layer3(images, seed)
