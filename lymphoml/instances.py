"""What a model's bags hold: pixels, or rows of numbers in their place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lymphoml.build import uses_images
from lymphoml.data.images import ImageStore, read_images
from lymphoml.data.mil_rows import read_bag_rows
from lymphoml.data.mil_table import LAYOUT
from lymphoml.data.row_files import read_rows
from lymphoml.data.rows import RowStore, side_by_side
from lymphoml.data.sources import mil_path
from lymphoml.errors import InputError
from lymphoml.features.computed import KINDS, PretrainedEncoder, computed

OF_PIXELS = {"stain": 0.0, "stain_norm": None, "zoom": 0.0, "tta": 1}  # settings, when off
FILE = "file"  # the user's own
BESIDE = "+"  # parts those that stand side by side in a row
Store = ImageStore | RowStore


def open_instances(
    model: dict[str, Any],
    data: dict[str, Any],
    images: Mapping[str, tuple[Path, ...]],
    encoder: PretrainedEncoder | None = None,
) -> tuple[Store, str]:
    """The store of each patient's images that the encoder asks for, and a key of their content.

    `encoder` makes the rows of an encoder that was pretrained, where they are asked for.
    """
    kinds = rows_wanted(model)
    if kinds == [FILE] and data["layout"] == LAYOUT:
        return read_bag_rows(mil_path(data), images)
    if kinds == [FILE]:
        return read_rows(Path(data["features"]).expanduser(), images)
    if kinds:
        seed = model["encoder"].get("seed", 0)
        found = [computed(kind, images, data, encoder, seed) for kind in kinds]
        return side_by_side([store for store, _ in found], images), found[0][1]
    return read_images(images, data)


def rows_wanted(model: dict[str, Any]) -> list[str]:
    """Of KINDS, or FILE; none where the encoder looks at pixels."""
    kinds = (model.get("encoder") or {}).get("rows")
    return str(kinds).split(BESIDE) if kinds else []


def check_rows(config: dict[str, Any]) -> None:
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
    seed = (config["model"].get("encoder") or {}).get("seed")
    if seed and "untrained" not in kinds:
        raise InputError(f"model.encoder.seed={seed}: there are no rows of an untrained network")
    if kinds == [FILE] and not given:
        raise InputError(
            "model/encoder=features needs data.features=FILE, a .csv, .parquet or .npz"
        )
    if kinds != [FILE] and given:
        raise InputError(f"data.features={given}: is read by model/encoder=features alone")
    asked = {key: config["data"][key] for key in OF_PIXELS}
    changed = [f"data.{key}={value}" for key, value in asked.items() if value != OF_PIXELS[key]]
    if changed and (kinds or not uses_images(config["model"])):
        raise InputError(f"{', '.join(changed)}: this model looks at no pixels; leave it out")
