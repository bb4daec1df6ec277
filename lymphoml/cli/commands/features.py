"""`python -m lymphoml features`: a row of numbers for every image of a cohort."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lymphoml.cli.options import check_out, option
from lymphoml.core.errors import InputError

if TYPE_CHECKING:
    from lymphoml.data.cohort import Cohort
    from lymphoml.features.feature_cache import Extractor

OF_NETWORKS = ("crop", "resize", "normalize_images", "stain_norm")  # what an encoder is to see


@dataclass
class Features:
    """Measure every cell, or encode every image, once; rows go to the cache, and to a file."""

    cohort: str = option("lymphocytosis", "which of conf/data, as data=... of train.py")
    data: dict[str, Any] = option(
        {}, "changes to its settings: data.root=DIR; of a network data.crop=112"
    )
    encoder: str = option(
        "morphology", "morphology, untrained, untrained_layer3, one of conf/model/encoder"
    )
    weights: str | None = option(None, "of that encoder: a file, default (ImageNet); none: random")
    name: str | None = option(None, "of the network, with encoder=timm")
    seed: int = option(0, "of random weights")
    out: str | None = option(None, "a .csv or .npz that data.features=FILE takes")


def run(options: Features) -> None:
    from lymphoml.cli.config import data_config

    data = data_config(options.cohort, options.data)
    out = Path(options.out).expanduser() if options.out else None

    from lymphoml.data.cache import hash_images
    from lymphoml.data.cohort import load_cohort
    from lymphoml.data.feature_files import check_suffix, write_feature_file
    from lymphoml.data.mil_table import require_images
    from lymphoml.features.feature_cache import read_features
    from lymphoml.features.pretraining.encoder_file import check_inputs

    require_images(data, "features")
    if out is not None:
        check_suffix(out)
        check_out(out, Path(data["root"]), "features.npz")
    if options.weights:
        check_inputs(Path(options.weights), data)
    cohort = load_cohort(data)
    store = read_features(hash_images(cohort.images), _extractor(options, data, cohort), data)
    count = sum(store.lengths)
    print(f"{count:,} images of {len(store.lengths)} patients, {len(store.names)} features each")
    if options.encoder == "morphology":
        found = sum(float(store.bag(patient)[:, 0].sum()) for patient in cohort.images)
        print(f"a nucleus was found in {100 * found / count:.1f} % of them")
    if out is not None:
        write_feature_file(out, store, cohort.images)
        print(out)


def _extractor(options: Features, data: dict[str, Any], cohort: "Cohort") -> "Extractor":
    from lymphoml.features.extractors import UNTRAINED, extractor
    from lymphoml.features.instance_store import MOST

    if not 0 <= options.seed <= MOST["seed"]:
        raise InputError(f"seed={options.seed}: allowed are 0 to {MOST['seed']:,}")
    given = {"weights": options.weights, "name": options.name}
    changes = {key: value for key, value in given.items() if value is not None}
    if options.encoder in ("morphology", *UNTRAINED):
        if changes:
            raise InputError(f"encoder={options.encoder}: has no setting {', '.join(changes)}")
        given = {key: options.data.get(key) for key in OF_NETWORKS}  # a cohort's own serve others
        idle = [f"data.{key}={value}" for key, value in given.items() if value]
        if idle:
            raise InputError(
                f"{', '.join(idle)}: encoder={options.encoder} takes images as they lie in their "
                f"files; leave it out, or name a network"
            )
        return extractor(options.encoder, cohort.images, seed=options.seed)
    from lymphoml.features.frozen_encoder import FrozenEncoder

    return FrozenEncoder(encoder_config(options.encoder, changes), data, options.seed)
