"""A pretrained encoder and what is told of it: two files side by side, the second written last."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from lymphoml.core.errors import InputError
from lymphoml.core.files import replacing, sha256, write_json
from lymphoml.core.untrusted import read_mapping
from lymphoml.data.pretraining_exposure import account, checked
from lymphoml.data.stain_normalization import NORMALISERS
from lymphoml.features.pretraining.settings import INPUTS

ENCODER, TOLD = "encoder.safetensors", "pretrained.json"
KEY = "lymphoml"  # of the file's metadata; one key, since safetensors sorts none


def write_encoder(folder: Path, encoder: nn.Module, told: dict[str, Any]) -> None:
    """`told`, with the encoder's digest, becomes `pretrained.json`.

    The encoder's own metadata say how its inputs were made, and what its numbers must say.
    """
    tensors = {name: each.cpu().contiguous() for name, each in encoder.state_dict().items()}
    settings = told["settings"]
    inputs = {key: settings[key] for key in INPUTS}
    metadata = {KEY: json.dumps(account(settings) | inputs, sort_keys=True)}
    with replacing(folder / ENCODER) as file:
        file.write(save(tensors, metadata))
    write_json(folder / TOLD, told | {"sha256": sha256(folder / ENCODER)})


def is_whole(folder: Path) -> bool:
    """Whether `folder` holds an encoder that is as it was written."""
    if not (folder / TOLD).is_file() or not (folder / ENCODER).is_file():
        return False
    told = read_mapping(folder / TOLD, f"remove {folder}")
    return told.get("sha256") == sha256(folder / ENCODER)


def assert_same_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Raises InputError where the encoder in `folder` was made by other settings than these."""
    told = read_mapping(folder / TOLD, f"remove {folder}").get("settings") or {}
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
        with replacing(place / name) as file:
            file.write((source / name).read_bytes())


def of_weights(path: Path, data: dict[str, Any]) -> dict[str, Any] | None:
    """What a file of weights tells of its pretraining; None where it tells nothing.

    Raises InputError where it was pretrained on other colours than `data`, the configuration's
    group, makes. Another size is a choice: whoever goes on learning may want more pixels.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(KEY)
    if not text:
        return None
    try:
        told = json.loads(text)
        found, made = checked(told), {"normalize_images": bool(told["normalize_images"])}
        if "stain_norm" in told:  # an earlier version's file tells none
            made["stain_norm"] = told["stain_norm"]
            if made["stain_norm"] not in (None, *NORMALISERS):
                raise ValueError("stain_norm is none")
    except (ValueError, KeyError, RecursionError):
        raise InputError(
            f"encoder weights: {path}: what it tells of its pretraining is damaged; make it again "
            "by python -m lymphoml pretrain"
        ) from None
    for key, value in made.items():
        if value != data[key]:
            raise InputError(
                f"encoder weights: {path} was pretrained with data.{key}={word(value)}; "
                "set it likewise"
            )
    return found
