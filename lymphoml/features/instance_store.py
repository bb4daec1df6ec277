"""What a model's bags hold: pixels, or rows of numbers in their place."""

from pathlib import Path
from typing import Any

from lymphoml.core.errors import InputError
from lymphoml.data.cache import Images
from lymphoml.data.cohort import mil_path
from lymphoml.data.decoding import Preprocessing
from lymphoml.data.feature_files import read_feature_file
from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.image_store import ImageStore, read_images
from lymphoml.data.mil_table import LAYOUT, read_bag_features
from lymphoml.features.extractors import KINDS, UNTRAINED, PretrainedEncoder, computed
from lymphoml.models.build import uses_images

# Settings of pixels, when off.
OF_PIXELS = {"augment.stain_jitter": 0.0, "stain_norm": None, "augment.scale": 0.0, "eval_tta": 1}
FILE = "file"  # the user's own
LEAST = {
    "seed": 0,
    "num_networks": 1,
}  # of untrained networks: their settings by default, and least
MOST = {"seed": 2**32, "num_networks": 64}
BESIDE = "+"  # parts those that stand side by side in a row
Store = ImageStore | FeatureStore


def open_instance_store(
    model: dict[str, Any],
    data: dict[str, Any],
    images: Images,
    encoder: PretrainedEncoder | None = None,
) -> tuple[Store, str]:
    """The store of each patient's images that the encoder asks for, and a key of their content.

    `encoder` makes the rows of an encoder that was pretrained, where they are asked for.
    """
    kinds = rows_wanted(model)
    if kinds == [FILE] and data["layout"] == LAYOUT:
        return read_bag_features(mil_path(data), images)
    if kinds == [FILE]:
        return read_feature_file(Path(data["features"]).expanduser(), images)
    if kinds:
        drawn = {key: model["encoder"][key] for key in LEAST if key in model["encoder"]}
        return computed(kinds, images, data, encoder, **drawn)
    return read_images(images, Preprocessing.of(data), data.cache)


def rows_wanted(model: dict[str, Any]) -> list[str]:
    """Of KINDS, or FILE; none where the encoder looks at pixels."""
    kinds = (model.get("encoder") or {}).get("rows")
    return str(kinds).split(BESIDE) if kinds else []


def check_features(config: dict[str, Any]) -> None:
    """Raises InputError where a file of rows is asked for and not given, or the reverse.

    And where pixels are to be changed that nobody looks at.
    """
    kinds, given = rows_wanted(config["model"]), config["data"]["features"]
    if config["data"]["layout"] == LAYOUT:
        if kinds != [FILE] or given:
            raise InputError(
                f"data.layout={LAYOUT}: the rows of data.table are what a bag holds; use "
                f"model/encoder=features or feature_network, without data.features"
            )
        return
    if kinds != [FILE] and (set(kinds) - set(KINDS) or len(set(kinds)) < len(kinds)):
        raise InputError(
            f"model.encoder.rows={BESIDE.join(kinds)}: allowed are {FILE}, {', '.join(KINDS)}, "
            f"and {BESIDE.join(KINDS)}"
        )
    _check_networks(config["model"].get("encoder") or {}, kinds)
    if kinds == [FILE] and not given:
        raise InputError("model/encoder=features needs data.features=FILE, a .csv or .npz")
    if kinds != [FILE] and given:
        raise InputError(f"data.features={given}: is read by model/encoder=features alone")
    data = config["data"]
    flat = data | {f"augment.{key}": value for key, value in data["augment"].items()}
    asked = {key: flat[key] for key in OF_PIXELS}
    changed = [f"data.{key}={value}" for key, value in asked.items() if value != OF_PIXELS[key]]
    if changed and (kinds or not uses_images(config["model"])):
        raise InputError(f"{', '.join(changed)}: this model looks at no pixels; leave it out")


def _check_networks(encoder: dict[str, Any], kinds: list[str]) -> None:
    for key, least in LEAST.items():
        value = encoder.get(key, least)
        if type(value) is not int or value < least:
            raise InputError(f"model.encoder.{key}={value}: allowed are whole numbers from {least}")
        if value > MOST[key]:
            raise InputError(f"model.encoder.{key}={value}: allowed are at most {MOST[key]:,}")
        if value != least and not set(kinds) & set(UNTRAINED):
            raise InputError(
                f"model.encoder.{key}={value}: there are no rows of an untrained network"
            )
