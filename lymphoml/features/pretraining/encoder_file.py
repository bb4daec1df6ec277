"""A pretrained encoder and what is told of it: two files side by side, the second written last."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from lymphoml.core.errors import InputError
from lymphoml.core.files import atomic_write, sha256, write_json
from lymphoml.core.untrusted import read_mapping
from lymphoml.data.stain_normalization import NORMALIZERS
from lymphoml.features.pretraining.settings import INPUTS

ENCODER, TOLD = "encoder.safetensors", "pretrained.json"
KEY = "lymphoml"  # of the file's metadata; one key, since safetensors sorts none


def write_encoder(folder: Path, encoder: nn.Module, told: dict[str, Any]) -> None:
    """Write the encoder, whose metadata say how its inputs are made, then `pretrained.json`.

    The latter holds `told` and the encoder's digest.
    """
    tensors = {name: each.cpu().contiguous() for name, each in encoder.state_dict().items()}
    settings = told["settings"]
    inputs = {key: settings[key] for key in INPUTS}
    metadata = {KEY: json.dumps(inputs, sort_keys=True)}
    with atomic_write(folder / ENCODER) as file:
        file.write(save(tensors, metadata))
    write_json(folder / TOLD, told | {"sha256": sha256(folder / ENCODER)})


def is_whole(folder: Path) -> bool:
    """Whether `folder` holds an encoder that is as it was written."""
    if not (folder / TOLD).is_file() or not (folder / ENCODER).is_file():
        return False
    told = read_mapping(folder / TOLD, f"remove {folder}")
    return told.get("sha256") == sha256(folder / ENCODER)


def assert_same_settings(folder: Path, settings: Any) -> None:
    """Raises InputError where the encoder in `folder` was made by other settings than these."""
    told = read_mapping(folder / TOLD, f"remove {folder}").get("settings") or {}
    settings = settings.to_dict()
    other = [key for key in settings if key in told and told[key] != settings[key]]
    if other:
        raise InputError(
            f"{folder / ENCODER} was pretrained with another pretrain.{other[0]}; set it likewise, "
            f"or take another run folder"
        )


def word(value: Any) -> str:
    """A setting's value as a command line takes it."""
    return "null" if value is None else str(value).lower()


def copy_encoder(source: Path, place: Path) -> None:
    """Both files of the folder `source` into the folder `place`."""
    for name in (ENCODER, TOLD):
        with atomic_write(place / name) as file:
            file.write((source / name).read_bytes())


def check_inputs(path: Path, data: dict[str, Any]) -> None:
    """Check that an encoder pretrained here gets the colours that it learned from.

    Raises InputError where `data`, the configuration's group, normalises otherwise. Another image
    size is allowed. A file of another origin is not checked.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return
    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(KEY)
    if not text:
        return
    try:
        inputs = json.loads(text)
        learned = bool(inputs["normalize_images"]), inputs["stain_norm"]
        if learned[1] not in (None, *NORMALIZERS):
            raise ValueError("unknown stain_norm")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(
            f"encoder weights: {path}: its metadata are damaged; make it again by "
            f"python -m lymphoml pretrain"
        ) from None
    for key, value in zip(("normalize_images", "stain_norm"), learned, strict=True):
        if value != data[key]:
            raise InputError(
                f"encoder weights: {path} was pretrained with data.{key}={word(value)}; "
                "set it likewise"
            )
