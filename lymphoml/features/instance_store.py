"""What a run's bags hold: decoded images, or feature vectors in their place."""

from operator import attrgetter
from typing import Any

from lymphoml.core.errors import InputError
from lymphoml.data.cache import Images, content_key, hash_images
from lymphoml.data.decoding import Preprocessing
from lymphoml.data.feature_files import read_feature_file
from lymphoml.data.feature_store import FeatureStore, concat_features
from lymphoml.data.image_store import ImageStore, read_images
from lymphoml.data.mil_table import LAYOUT, read_bag_features
from lymphoml.data.settings import DataConfig
from lymphoml.features.blocks import PretrainedEncoder, make_blocks
from lymphoml.features.feature_cache import load_features
from lymphoml.models.build import takes_features, uses_images

# Settings of pixels, when off.
OF_PIXELS = {"augment.stain_jitter": 0.0, "stain_norm": None, "augment.scale": 0.0, "eval_tta": 1}

OF_VECTORS = ("must be identity or mlp for bags of feature vectors (data/features, "
              f"data.layout={LAYOUT})")  # fmt: skip
OF_IMAGES = ("this one takes feature vectors; set data/features, such as data/features=morphology, "
             "or choose a network")  # fmt: skip


def open_instance_store(
    data: DataConfig, images: Images, encoder: PretrainedEncoder | None = None
) -> tuple[ImageStore | FeatureStore, str]:
    """Return the store of the patients' images or vectors, and its key. Raises InputError."""
    features = data.features
    if (file := data.feature_file) is not None:
        return (read_bag_features if data.layout == LAYOUT else read_feature_file)(file, images)
    if not features.blocks:
        return read_images(images, Preprocessing.of(data), data.cache)
    blocks: Any = make_blocks(
        features.blocks, images, encoder, features.seed, features.num_networks
    )
    sources = hash_images(images)
    stores = iter(load_features([part for parts in blocks for part in parts], sources, data.cache))
    by_block = []
    for parts in blocks:
        of_parts = [next(stores) for _ in parts]
        for part, store in zip(parts, of_parts, strict=True):
            if len(parts) > 1:  # networks, whose columns say which of them they are of
                store.names = [f"network{part.seed}_{name}" for name in store.names]
        by_block.append(concat_features(of_parts, images))
    return concat_features(by_block, images), content_key(sources)


def check_features(config: Any) -> None:
    """Check what bags hold, and settings of pixels, against the encoder. Raises InputError."""
    data, images = config.data, uses_images(config.model)
    if data.features.used and data.layout == LAYOUT:
        raise InputError(
            f"data/features: has no effect with data.layout={LAYOUT}, where data.table holds the "
            f"feature vectors; leave it out"
        )
    if images and data.holds_features != takes_features(config.model):
        raise InputError(f"model.encoder: {OF_VECTORS if data.holds_features else OF_IMAGES}")
    changed = [f"data.{key}={value}" for key, off in OF_PIXELS.items()
               if (value := attrgetter(key)(data)) != off]  # fmt: skip
    if changed and (data.holds_features or not images):
        raise InputError(f"{', '.join(changed)}: has no effect: this model uses no pixels")
