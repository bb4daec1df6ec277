"""A pretrained encoder's folder: its weights, and a record of settings and digest, written last."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from lymphoml.core.errors import InputError
from lymphoml.core.files import atomic_write, sha256, write_json
from lymphoml.core.untrusted import read_mapping
from lymphoml.data.cache import foreign_entry
from lymphoml.features.encoder_weights import KEY
from lymphoml.features.pretraining.settings import INPUTS

ENCODER, RECORD = "encoder.safetensors", "pretrained.json"


def write_encoder(folder: Path, encoder: nn.Module, record: dict[str, Any]) -> None:
    """Write the encoder, with the settings of its inputs as metadata, then its record."""
    tensors = {name: each.cpu().contiguous() for name, each in encoder.state_dict().items()}
    inputs = {key: record["settings"][key] for key in INPUTS}
    metadata = {KEY: json.dumps(inputs, sort_keys=True)}
    with atomic_write(folder / ENCODER) as file:
        file.write(save(tensors, metadata))
    write_json(folder / RECORD, record | {"sha256": sha256(folder / ENCODER)})


def is_whole(folder: Path) -> bool:
    """Return whether `folder` holds an encoder as it was written."""
    try:
        both = (folder / RECORD).is_file() and (folder / ENCODER).is_file()
        return both and sha256(folder / ENCODER) == _read_record(folder).get("sha256")
    except PermissionError:
        raise foreign_entry(folder / ENCODER) from None


def assert_same_settings(folder: Path, settings: Any) -> None:
    """Raise InputError where the encoder in `folder` was made by other settings than these."""
    recorded = _read_record(folder).get("settings") or {}
    for key, value in settings.to_dict().items():
        if key in recorded and recorded[key] != value:
            raise InputError(
                f"{folder / ENCODER} was pretrained with another pretrain.{key}; set the same, or "
                f"use another run folder"
            )


def copy_encoder(source: Path, target: Path) -> None:
    """Copy both files of the folder `source` into the folder `target`."""
    for name in (ENCODER, RECORD):
        with atomic_write(target / name) as file:
            file.write((source / name).read_bytes())


def _read_record(folder: Path) -> dict[str, Any]:
    return read_mapping(folder / RECORD, f"remove {folder}")
