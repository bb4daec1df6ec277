"""Which file an encoder's weights are in, and what they were trained on. No torch, no network.

`weights` is a file, a folder as Hugging Face has it, or hf-hub:ORG/NAME of its local cache.
"""

import json
import math
import re
from collections.abc import Mapping
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
LARGEST = 4096  # pixels a side
# transformers' DINOv2 as timm's options, and what timm's networks have in any case.
DINOV2 = {"hidden_size": "embed_dim", "num_hidden_layers": "depth", "num_attention_heads":
          "num_heads", "patch_size": "patch_size", "num_register_tokens": "reg_tokens"}  # fmt: skip
OF_FACTORY = {"_target_", "name", "weights", "norm", "trainable"}
FIXED = {"hidden_act": "gelu", "layer_norm_eps": 1e-6, "qkv_bias": True, "num_channels": 3}


def resolve_weights(
    encoder: Mapping[str, Any], data: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both sections with what the weights' files decide where these leave it open.

    That is the file, timm's network, data.normalize_images and data.resize; a line says so. Raises
    InputError.
    """
    encoder, data = dict(encoder), dict(data)
    before = encoder | data
    is_timm = str(encoder.get("_target_")).endswith(".timm_encoder")
    if is_timm and str(encoder.get("name")).startswith(HUB):
        _use_architecture(encoder, trained_with(_find_cached(encoder["name"], TENSORS)))
    weights = encoder.get("weights")
    path = None if weights in (None, "default", PRETRAINED) else find_file(str(weights))
    known = {} if path is None else trained_with(path)
    if path is not None:
        encoder["weights"] = str(path)
    if is_timm and ("architecture" in known or "options" in known):
        _use_architecture(encoder, known)
    if data.get("normalize_images", False) is None:
        if weights == "default":
            known["normalize_images"] = _released_statistics(encoder) if is_timm else True
        data["normalize_images"] = known.get("normalize_images", False)
    size, trained = data.get("resize") or data.get("crop"), known.get("size")
    if size is None and trained is not None:
        size = data["resize"] = trained
    is_vit = is_timm and str(encoder.get("name")).startswith("vit_")
    if path is not None and is_vit and size and "dynamic_img_size" not in encoder:
        encoder.setdefault("img_size", size)
    lines = [
        f"{'model.encoder' if key in encoder else 'data'}.{key}={to_override(value)}"
        for key, value in (encoder | data).items()
        if before.get(key) != value and key not in ("weights", "_target_")
        and (known or key != "normalize_images")
    ]  # fmt: skip
    if trained not in (None, size):
        lines.append(f"its images had {trained} pixels a side, here they have {size}")
    if path is not None and "normalize_images" not in known and not data.get("normalize_images"):
        lines.append(
            "does not say how its images were normalized; released networks need "
            "data.normalize_images=true"
        )
    if lines:
        print(f"encoder weights: {weights}: {', '.join(lines)}", flush=True)
    return encoder, data


def find_file(weights: str) -> Path:
    """Return the file of tensors, which may not exist where `weights` is a file. InputError."""
    if weights.startswith(HUB):
        return _find_cached(weights, TENSORS)
    path = Path(weights).expanduser()
    if not path.is_dir():
        return path
    for name in TENSORS:
        if (path / name).is_file():
            return path / name
    raise InputError(f"encoder weights: {path} has no {' or '.join(TENSORS)}; give the file itself")


def trained_with(path: Path) -> dict[str, Any]:
    """Return what the files record of normalize_images, stain_norm, size (pixels a side),
    architecture and options (timm's); what they do not record is absent. Raises InputError.
    """
    if path.name in TENSORS and path.with_name(CONFIG).is_file():
        try:
            return _published(path.with_name(CONFIG))
        except (TypeError, AttributeError, ValueError):
            raise InputError(
                f"{path.with_name(CONFIG)} is not one of timm or transformers; fetch it again"
            ) from None
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    try:
        header = read_safetensors_header(path)
    except ValueError:
        return {}  # whoever loads it says what is wrong
    try:
        text = (header.get("__metadata__") or {}).get(KEY)
        if not text:
            return {}
        inputs = json.loads(text)
        normalize = inputs["normalize_images"]
        if isinstance(normalize, dict):
            ChannelStatistics.read(normalize)
        if inputs["stain_norm"] not in (None, *NORMALIZERS):
            raise ValueError("unknown stain_norm")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InputError):
        raise InputError(
            f"encoder weights: {path}: its metadata are corrupt; make it again by "
            f"python -m lymphoml pretrain"
        ) from None
    normalize = normalize if isinstance(normalize, dict) else bool(normalize)
    return {"normalize_images": normalize, "stain_norm": inputs["stain_norm"]}


def check_inputs(path: Path, data: Any) -> None:
    """Raise InputError where `data` colours images unlike those that the file was trained on."""
    known = trained_with(path)
    for key in known.keys() & {"normalize_images", "stain_norm"}:
        used = getattr(data, key)
        if known[key] != (used.to_dict() if isinstance(used, Section) else used):
            raise InputError(
                f"encoder weights: {path} was pretrained with data.{key}={to_override(known[key])};"
                f" set the same"
            )


def _published(path: Path) -> dict[str, Any]:
    """Return the same from a folder of timm or transformers; `path` is its config.json."""
    advice = "fetch it again"
    config, inputs = read_mapping(path, advice), path.with_name(PREPROCESSOR)
    found: dict[str, Any] = {}
    if "architecture" in config:
        values = config.get("pretrained_cfg", config)
        options = dict(config.get("model_args") or {})
        if options.pop("in_chans", 3) != 3:
            raise InputError(f"{path}: model_args.in_chans must be 3, the colours of an image")
        kept = {key: value for key, value in options.items() if key != "num_classes"}
        found |= {"architecture": config["architecture"], "options": kept}
        mean, std, size = values.get("mean"), values.get("std"), values.get("input_size")
    elif str(config.get("model_type")).startswith("dinov2"):
        for key, value in FIXED.items():
            if config.get(key, value) != value:
                raise InputError(f"{path}: {key}={config[key]}: timm's network has {value}")
        options = {name: config[key] for key, name in DINOV2.items() if key in config}
        found["options"] = options | ({"no_embed_class": True} if options.get("reg_tokens") else {})
    if "architecture" not in config:
        values = read_mapping(inputs, advice) if inputs.is_file() else {}
        mean, std = values.get("image_mean"), values.get("image_std")
        size = values.get("crop_size" if values.get("do_center_crop") else "size")
        if not math.isclose(values.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-3):
            raise InputError(f"{inputs}: rescale_factor must be 1/255; images are scaled to [0, 1]")
    if values.get("do_normalize") is False:
        found["normalize_images"] = False
    elif mean is not None or std is not None:
        found["normalize_images"] = _statistics(mean, std, path)
    if size is not None:
        sides = (
            size.values() if isinstance(size, dict) else size if isinstance(size, list) else [size]
        )
        side = next(reversed([*sides]), None)
        if type(side) is not int or not 1 <= side <= LARGEST:
            raise InputError(
                f"{path}: its images have {side} pixels a side; must be 1 to {LARGEST}"
            )
        found["size"] = side
    return found


def _statistics(mean: Any, std: Any, path: Path) -> bool | dict[str, list[float]]:
    """Return data.normalize_images for this mean and standard deviation."""
    try:
        values = ChannelStatistics.read({"mean": mean, "std": std}).to_dict()
    except InputError as error:
        raise InputError(f"{path}: {each}" for each in error.problems) from None
    return True if values == IMAGENET else values


def _use_architecture(encoder: dict[str, Any], known: Mapping[str, Any]) -> None:
    """Set timm's name and options. Raises InputError where `encoder` has others."""
    name, wanted = str(encoder.get("name")), known.get("architecture")
    if name.startswith(HUB):
        if wanted is None:
            raise InputError(
                f"model.encoder.name={name}: its {CONFIG} names no network of timm; set "
                f"model.encoder.name to one, and model.encoder.weights={name}"
            )
        if encoder.get("weights") == "default":
            encoder["weights"] = name
        encoder["name"] = wanted
    elif wanted is not None and name.partition(".")[0] != wanted:
        raise InputError(
            f"encoder weights: {encoder['weights']} are of {wanted}; set "
            f"model.encoder.name={wanted}"
        )
    for key, value in known.get("options", {}).items():
        if key in OF_FACTORY:
            raise InputError(f"{CONFIG} of {encoder['weights']}: model_args.{key} is no option")
        if key != "img_size" and encoder.setdefault(key, value) != value:
            raise InputError(
                f"model.encoder.{key}={encoder[key]}: its {CONFIG} has {value}; leave it out"
            )


def _released_statistics(encoder: Mapping[str, Any]) -> bool | dict[str, list[float]]:
    """Return the normalization of timm's own weights."""
    import timm

    config = timm.get_pretrained_cfg(str(encoder.get("name")), allow_unregistered=True)
    values = {key: list(getattr(config, key, IMAGENET[key])) for key in IMAGENET}
    return True if values == IMAGENET else values


def _find_cached(source: str, names: tuple[str, ...]) -> Path:
    """Return the first of these files of hf-hub:ORG/NAME[@REVISION] in the local cache."""
    from huggingface_hub import constants, try_to_load_from_cache

    repository, _, revision = source.removeprefix(HUB).partition("@")
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repository) or re.search(r"[^\w.-]", revision):
        raise InputError(f"encoder weights: {source}: must be hf-hub:ORG/NAME, or ...@REVISION")
    for name in names:
        found = try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    option = f" --revision {revision}" if revision else ""
    raise InputError(
        f"encoder weights: {source} is not in {constants.HF_HUB_CACHE}; fetch it with: hf download "
        f"{repository}{option}"
    )
