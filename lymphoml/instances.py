"""What a model's bags hold: pixels, or rows of numbers in their place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lymphoml.data.images import ImageStore, read_images
from lymphoml.data.row_files import read_rows
from lymphoml.data.rows import RowStore, side_by_side
from lymphoml.errors import InputError
from lymphoml.features.computed import KINDS, PretrainedEncoder, computed

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
    if kinds == [FILE]:
        return read_rows(Path(data["features"]).expanduser(), images)
    if kinds:
        found = [computed(kind, images, data, encoder) for kind in kinds]
        return side_by_side([store for store, _ in found], images), found[0][1]
    return read_images(images, data)


def rows_wanted(model: dict[str, Any]) -> list[str]:
    """Of KINDS, or FILE; none where the encoder looks at pixels."""
    kinds = (model.get("encoder") or {}).get("rows")
    return str(kinds).split(BESIDE) if kinds else []


def check_rows(config: dict[str, Any]) -> None:
    """Raises InputError where a file of rows is asked for and not given, or the reverse."""
    kinds, given = rows_wanted(config["model"]), config["data"]["features"]
    if kinds != [FILE] and (set(kinds) - set(KINDS) or len(set(kinds)) < len(kinds)):
        raise InputError(
            f"model.encoder.rows={BESIDE.join(kinds)}: allowed are {FILE}, {', '.join(KINDS)}, "
            f"and {BESIDE.join(KINDS)}"
        )
    if kinds == [FILE] and not given:
        raise InputError(
            "model/encoder=features needs data.features=FILE, a .csv, .parquet or .npz"
        )
    if kinds != [FILE] and given:
        raise InputError(f"data.features={given}: is read by model/encoder=features alone")
