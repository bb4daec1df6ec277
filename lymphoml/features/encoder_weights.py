"""Which file an encoder's weights are in, and what they were trained on. No torch, no network.

`weights` is a file, a folder of timm or transformers, or hf-hub:ORG/NAME of Hugging Face's cache.
"""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lymphoml.core.errors import InputError
from lymphoml.core.section import Section, to_override
from lymphoml.core.tensor_files import read_safetensors_header
from lymphoml.core.untrusted import read_mapping
from lymphoml.data.settings import IMAGENET, ChannelStatistics
from lymphoml.data.stain_normalization import NORMALIZERS
from lymphoml.features.pretraining.settings import PRETRAINED

KEY = "lymphoml"  # of a safetensors file's metadata; one key, since safetensors sorts none
HUB = "hf-hub:"
TENSORS = ("model.safetensors", "pytorch_model.bin")  # of a folder, the first that is there
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
# Of transformers' DINOv2: timm's names, and what timm's networks have in any case.
DINOV2 = {"hidden_size": "embed_dim", "num_hidden_layers": "depth", "patch_size": "patch_size",
          "num_attention_heads": "num_heads", "num_register_tokens": "reg_tokens"}  # fmt: skip
MAX_SIDE = 4096  # pixels of an image
FIXED = {"hidden_act": "gelu", "layer_norm_eps": 1e-6}
OPEN = "how its images were normalized is not recorded; many need data.normalize_images=true"


def resolve_weights(
    encoder: Mapping[str, Any], data: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both sections with what the weights' files decide where these leave it open.

    That is file, timm's network, data.normalize_images and data.resize; a line says so. InputError.
    """
    encoder, data, before = dict(encoder), dict(data), {**encoder, **data}
    weights, name = encoder.get("weights"), str(encoder.get("name"))
    is_timm = str(encoder.get("_target_")).endswith(".timm_encoder")
    if is_timm and name.startswith(HUB):
        weights = name if weights == "default" else weights
        _use_architecture(encoder, trained_with(find_file(name)), name)
    path = None if weights in (None, "default", PRETRAINED) else find_file(str(weights))
    known = {} if path is None else trained_with(path)
    if path is not None:
        encoder["weights"] = str(path)
        if is_timm:
            _use_architecture(encoder, known, str(weights))
    if data.get("normalize_images", False) is None:
        if weights == "default":
            known["normalize_images"] = not is_timm or _released_statistics(name)
        data["normalize_images"] = known.get("normalize_images", False)
    trained = known.get("size")
    if not (size := data.get("resize") or data.get("crop")) and trained:
        size = data["resize"] = trained
    if path is not None and is_timm and size and str(encoder.get("name")).startswith("vit_"):
        encoder.setdefault("img_size", size)
    lines = [
        f"{'model.encoder' if key in encoder else 'data'}.{key}={to_override(value)}"
        for key, value in (encoder | data).items()
        if before.get(key) != value and key != "weights" and (known or key != "normalize_images")
    ]
    if trained and trained != size:
        lines.append(f"its images had {trained} pixels a side, here they have {size}")
    if path is not None and "normalize_images" not in known and not data.get("normalize_images"):
        lines.append(OPEN)
    if lines:
        print(f"encoder weights: {weights}: {', '.join(lines)}", flush=True)
    return encoder, data


def find_file(weights: str) -> Path:
    """Return the file of tensors. Raises InputError."""
    if weights.startswith(HUB):
        return _find_cached(weights)
    path = Path(os.path.expanduser(weights))
    names = [path / name for name in TENSORS] if os.path.isdir(path) else [path]
    if found := [each for each in names if os.path.exists(each)]:
        return found[0]
    what = "does not exist" if len(names) == 1 else f"has no {' or '.join(TENSORS)}; give the file"
    raise InputError(f"encoder weights: {path} {what}")


def trained_with(path: Path) -> dict[str, Any]:
    """Return what the files record of normalize_images, stain_norm, size (pixels a side),
    architecture and options (timm's); what they do not record is absent. Raises InputError.
    """
    if path.name in TENSORS and (config := path.with_name(CONFIG)).is_file():
        try:
            return _published(config)
        except (TypeError, AttributeError, ValueError, LookupError):
            raise InputError(f"{config} is none of timm or transformers; fetch it again") from None
    header = {}
    with suppress(ValueError, OSError):  # whoever loads it says what is wrong
        header = read_safetensors_header(path) if path.suffix == ".safetensors" else {}
    try:
        if not (text := (header.get("__metadata__") or {}).get(KEY)):
            return {}
        inputs = json.loads(text)
        if isinstance(inputs["normalize_images"], dict):
            ChannelStatistics.model_validate(inputs["normalize_images"])
        if inputs["stain_norm"] not in (None, *NORMALIZERS):
            raise ValueError("unknown stain_norm")
        return {key: inputs[key] for key in ("normalize_images", "stain_norm")}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(
            f"encoder weights: {path}: its metadata are corrupt; make it again by "
            f"python -m lymphoml pretrain"
        ) from None


def check_inputs(path: Path, data: Any) -> None:
    """Raise InputError where `data` colours images unlike those that the file was trained on."""
    for key, value in trained_with(path).items():
        used = getattr(data, key) if key in ("normalize_images", "stain_norm") else value
        if value != (used.to_dict() if isinstance(used, Section) else used):
            raise InputError(
                f"encoder weights: {path} was pretrained with data.{key}={to_override(value)}; "
                f"set the same"
            )


def _published(path: Path) -> dict[str, Any]:
    """Return the same from a folder of timm or transformers; `path` is its config.json."""
    config, seen = read_mapping(path, "fetch it again"), path.with_name(PREPROCESSOR)
    found = {"architecture": config["architecture"]} if "architecture" in config else {}
    if found:
        values, options = config.get("pretrained_cfg", config), config.get("model_args", {})
        mean, std, size = values.get("mean"), values.get("std"), values.get("input_size")
    else:
        for key, value in FIXED.items():
            if config.get(key, value) != value:
                raise InputError(f"{path}: {key}={config[key]}: timm's network has {value}")
        options = {name: config[key] for key, name in DINOV2.items() if key in config}
        options |= {"no_embed_class": True} if options.get("reg_tokens") else {}
        values = read_mapping(seen, "fetch it again") if seen.is_file() else {}
        mean, std = values.get("image_mean"), values.get("image_std")
        size = values.get("crop_size" if values.get("do_center_crop") else "size")
    found["options"] = {k: v for k, v in options.items() if k not in ("num_classes", "img_size")}
    if size is not None:
        sides = [*size.values()] if isinstance(size, dict) else size
        found["size"] = sides if isinstance(sides, int) else sides[-1]
        if type(found["size"]) is not int or not 1 <= found["size"] <= MAX_SIDE:
            raise ValueError("no size")
    if values.get("do_normalize") is False:
        found["normalize_images"] = False
    elif mean is not None or std is not None:
        found["normalize_images"] = _statistics(mean, std)
    return found


def _use_architecture(encoder: dict[str, Any], known: Mapping[str, Any], weights: str) -> None:
    """Set timm's name and options. Raises InputError where `encoder` has others."""
    name, wanted = str(encoder.get("name")), known.get("architecture")
    if name.startswith(HUB) and wanted is None:
        raise InputError(f"model.encoder.name={name}: its {CONFIG} names no network of timm")
    if name.startswith(HUB):
        encoder["name"] = wanted
    elif wanted in (None, name.partition(".")[0]):
        wanted = name
    for key, value in (known.get("options", {}) | {"name": wanted}).items():
        if (used := encoder.setdefault(key, value)) != value:
            raise InputError(
                f"model.encoder.{key}={used}: {weights} has {value} by its {CONFIG}; set the same"
            )


def _statistics(mean: Any, std: Any) -> bool | dict[str, list[float]]:
    """Return data.normalize_images for this mean and standard deviation."""
    values = ChannelStatistics.model_validate({"mean": mean, "std": std}).to_dict()
    return True if values == IMAGENET else values


def _released_statistics(name: str) -> bool | dict[str, list[float]]:
    """Return the normalization of the weights that timm releases of a network."""
    import timm

    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return config is None or _statistics(list(config.mean), list(config.std))


def _find_cached(source: str) -> Path:
    """Return the file of hf-hub:ORG/NAME[@REVISION] in the local cache. Raises InputError."""
    from huggingface_hub import constants, try_to_load_from_cache

    repository, _, revision = source.removeprefix(HUB).partition("@")
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repository) or re.search(r"[^\w.-]", revision):
        raise InputError(f"encoder weights: {source}: must be hf-hub:ORG/NAME, or ...@REVISION")
    for name in TENSORS:
        found = try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    raise InputError(
        f"encoder weights: {source} is not in {constants.HF_HUB_CACHE}; fetch it with: hf download "
        + f"{repository} --revision {revision}".removesuffix(" --revision ")
    )
