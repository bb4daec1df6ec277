"""What a model's bags hold: pixels, or rows of numbers in their place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lymphoml.data.images import ImageStore, read_images
from lymphoml.data.rows import RowStore
from lymphoml.errors import InputError

ROWS = ("morphology", "untrained", "file")  # whose: measured, of a network, or of the user
Store = ImageStore | RowStore


def open_instances(
    model: dict[str, Any], data: dict[str, Any], images: Mapping[str, tuple[Path, ...]]
) -> tuple[Store, str]:
    """The store of each patient's images that the encoder asks for, and a key of their content."""
    kind = rows_wanted(model)
    if kind == "morphology":
        # scikit-image takes a second to import, which other models do without.
        from lymphoml.features.cells import Morphology
        from lymphoml.features.table import read_features

        return read_features(images, Morphology(), data)
    if kind == "untrained":
        from lymphoml.features.encoded import untrained
        from lymphoml.features.table import read_features

        return read_features(images, untrained(images), data)
    if kind == "file":
        from lymphoml.data.row_files import read_rows

        return read_rows(Path(data["features"]).expanduser(), images)
    return read_images(images, data)


def rows_wanted(model: dict[str, Any]) -> str | None:
    """One of ROWS, or None where the encoder looks at pixels."""
    return (model.get("encoder") or {}).get("rows")


def check_rows(config: dict[str, Any]) -> None:
    """Raises InputError where a file of rows is asked for and not given, or the reverse."""
    kind, given = rows_wanted(config["model"]), config["data"]["features"]
    if kind not in (None, *ROWS):
        raise InputError(f"model.encoder.rows={kind}: allowed are {', '.join(ROWS)}")
    if kind == "file" and not given:
        raise InputError(
            "model/encoder=features needs data.features=FILE, a .csv, .parquet or .npz"
        )
    if kind != "file" and given:
        raise InputError(f"data.features={given}: is read by model/encoder=features alone")
