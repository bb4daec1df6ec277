"""`python -m lymphoml features`: a feature vector for every image of a cohort."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lymphoml.cli.options import check_out, option
from lymphoml.core.errors import InputError

if TYPE_CHECKING:
    from lymphoml.data.cohort import Cohort
    from lymphoml.features.blocks import FeatureBlock

BLOCKS = ("morphology", "random_resnet18", "random_resnet18_layer3")  # with settings of their own
OF_NETWORKS = ("crop", "resize", "normalize_images", "stain_norm")  # what an encoder is to see
MAX_SEED = 2**32


@dataclass
class Features:
    """Measure every cell, or encode every image, once; to the cache, and to a file."""

    cohort: str = option("lymphocytosis", "which of conf/data, as data=... of train.py")
    data: dict[str, Any] = option(
        {}, "changes to its settings: data.root=DIR; of a network data.crop=112"
    )
    encoder: str = option(
        "morphology",
        "morphology, random_resnet18, random_resnet18_layer3, one of conf/model/encoder",
    )
    weights: str | None = option(None, "of that encoder: a file, default (ImageNet); none: random")
    name: str | None = option(None, "of the network, with encoder=timm")
    seed: int = option(0, "of random weights")
    out: str | None = option(None, "a .csv or .npz for data/features=file data.features.path=FILE")


def run(options: Features) -> None:
    from lymphoml.cli.config import data_config

    data = data_config(options.cohort, options.data)
    out = Path(options.out).expanduser() if options.out else None

    from lymphoml.data.cache import hash_images
    from lymphoml.data.cohort import load_cohort
    from lymphoml.data.feature_files import check_suffix, write_feature_file
    from lymphoml.data.mil_table import require_images
    from lymphoml.features.feature_cache import load_features
    from lymphoml.features.pretraining.encoder_file import check_inputs

    require_images(data, "features")
    if out is not None:
        check_suffix(out)
        check_out(out, Path(data.root), "features.npz")
    if options.weights:
        check_inputs(Path(options.weights), data)
    cohort = load_cohort(data)
    block = _block(options, data, cohort)
    (store,) = load_features([block], hash_images(cohort.images), data.cache)
    count = sum(store.lengths)
    print(f"{count:,} images of {len(store.lengths)} patients, {len(store.names)} features each")
    if options.encoder == "morphology":
        found = sum(float(store.bag(patient)[:, 0].sum()) for patient in cohort.images)
        print(f"a nucleus was found in {100 * found / count:.1f} % of them")
    if out is not None:
        write_feature_file(out, store, cohort.images)
        print(out)


def _block(options: Features, data: Any, cohort: "Cohort") -> "FeatureBlock":
    from lymphoml.cli.config import encoder_config
    from lymphoml.data.decoding import Preprocessing
    from lymphoml.features.blocks import EncoderBlock, make_blocks

    if not 0 <= options.seed <= MAX_SEED:
        raise InputError(f"seed={options.seed}: must be >= 0 and <= {MAX_SEED}")
    given = {"weights": options.weights, "name": options.name}
    changes = {key: value for key, value in given.items() if value is not None}
    if options.encoder in BLOCKS:
        given = {key: options.data.get(key) for key in OF_NETWORKS}  # a cohort's own serve others
        unused = [*changes, *(f"data.{key}" for key, value in given.items() if value)]
        if unused:
            raise InputError(f"{', '.join(unused)}: has no effect with encoder={options.encoder}")
        ((block,),) = make_blocks([options.encoder], cohort.images, seed=options.seed)
        return block
    spec = encoder_config(options.encoder, changes)
    preprocessing = Preprocessing(data.crop, data.resize, data.stain_norm)
    return EncoderBlock(spec, preprocessing, data.normalize_images, options.seed)
