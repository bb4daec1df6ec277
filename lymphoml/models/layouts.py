"""Published layouts of vision transformers, recognised by their keys, as timm names the tensors."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lymphoml.core.errors import InputError

State = dict[str, Tensor]
MASK, REGISTERS, PATCHES = "mask_token", "register_tokens", "patch_embed.proj.weight"
# What training programs wrap an encoder in, and name beside it: heads, the student of a teacher.
CONTAINERS = ("teacher", "state_dict", "model")
PREFIXES = ("encoder.", "module.", "teacher.", "backbone.", "model.", "dinov2.",
            "dinov2_with_registers.")  # fmt: skip
HEADS = ("fc", "classifier", "head", "heads", "dino_head", "ibot_head", "student", MASK)
# DINOv2 of transformers: its own key, and its keys as DINOv2 has them.
TRANSFORMERS = "embeddings.patch_embeddings.projection.weight"
NAMES = (
    (r"embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.", ""),
    (r"encoder\.layer\.", "blocks."),
    (r"attention\.output\.dense", "attn.proj"),
    (r"attention\.attention\.", "attn."),
    (r"layer_scale([12])\.lambda1", r"ls\1.gamma"),
    (r"mlp\.weights_in", "mlp.w12"),
    (r"mlp\.weights_out", "mlp.w3"),
    (r"^layernorm\.", "norm."),
)


def unwrap(content: Any) -> tuple[Any, list[str]]:
    """Return the mapping of tensors in a training program's file, and the keys next to it."""
    for name in CONTAINERS if isinstance(content, Mapping) else ():
        if isinstance(content.get(name), Mapping) and content[name]:
            return content[name], [str(key) for key in content if key != name]
    return content, []


def is_head(key: str) -> bool:
    """Return whether an entry may be left out where the encoder has none of its name."""
    return key.partition(".")[0] in HEADS


def strip_prefixes(state: State, own: State) -> tuple[State, list[str]]:
    """Return the encoder's entries under the network's names `own`, and the keys of the others.

    Next to `encoder.` any others may be left out, as of a MILModel; else only HEADS.
    """
    others: list[str] = []
    while not any(key in own or key == TRANSFORMERS for key in state):
        for prefix in PREFIXES:
            outside = [key for key in state if not key.startswith(prefix)]
            if len(outside) < len(state) and (prefix == "encoder." or all(map(is_head, outside))):
                break
        else:
            return state, others
        others += outside
        state = {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
    return state, others


def to_timm(state: State, network: nn.Module) -> tuple[State, list[str]]:
    """Return the entries as `network` names them, and lines on what was changed. InputError."""
    layout = "DINOv2 of transformers" if TRANSFORMERS in state else "DINOv2"
    is_dinov2 = not {TRANSFORMERS, MASK, REGISTERS}.isdisjoint(state)
    renamed: State = {}
    for key, tensor in state.items():
        for pattern, name in NAMES if TRANSFORMERS in state else ():
            key = re.sub(pattern, name, key)
        # DINOv2's blocks may be in chunks, each block with its number in the whole.
        key = re.sub(r"^blocks\.\d+\.(\d+\.)", r"blocks.\1", key)
        if key in renamed:
            raise InputError(f"it has {key} twice, under different names")
        renamed[key] = tensor
    for key in [key for key in renamed if ".attn.query." in key]:
        names = [key.replace("query", part) for part in ("query", "key", "value")]
        parts = [renamed[name] for name in names if name in renamed]
        if len(parts) == 3 and len({part.shape for part in parts}) == 1 and parts[0].dim():
            renamed = {name: each for name, each in renamed.items() if name not in names}
            renamed[key.replace("query", "qkv")] = torch.cat(parts)
    fitted, lines = _fit(renamed, network, is_dinov2) if PATCHES in renamed else (renamed, [])
    return fitted, [f"{layout}, {len(fitted)} tensors used"] * is_dinov2 + lines


def _fit(state: State, network: nn.Module, is_dinov2: bool) -> tuple[State, list[str]]:
    """Return the entries as timm converts DINOv2's, position embeddings in the network's grid.

    Unchanged where they do not fit, for whoever loads them to say why. Raises InputError.
    """
    from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

    own, registers = network.state_dict(), REGISTERS in state
    positions, has = state.get("pos_embed"), own.get("pos_embed")
    if not isinstance(network, VisionTransformer) or positions is None or has is None:
        return state, []
    both = {PATCHES, "cls_token"} & own.keys() & state.keys()
    if (
        any(state[key].shape != own[key].shape for key in both)
        or (positions.dim() != 3 or positions.shape[::2] != has.shape[::2])
        or (registers and not (network.no_embed_class and "cls_token" in both))
    ):
        return state, []
    prefix = 1 if registers else 0 if network.no_embed_class else network.num_prefix_tokens
    tokens, grid = max(0, positions.shape[1] - prefix), network.patch_embed.grid_size
    side, interpolated = math.isqrt(tokens), tokens != math.prod(grid)
    if interpolated and (side == 0 or side * side != tokens):
        return state, []
    patch = network.patch_embed.patch_size[0]
    pixels = min(network.patch_embed.img_size or (patch,))
    if pixels % patch and (interpolated or is_dinov2):
        raise InputError(
            f"its patches have {patch} pixels a side, and images of {pixels} are no multiple; set "
            f"data.resize={max(1, pixels // patch) * patch}"
        )
    core = {key: each for key, each in state.items() if key.startswith(("blocks.", "patch_embed."))
            or key in ("cls_token", "pos_embed", REGISTERS, MASK)}  # fmt: skip
    others = {key: each for key, each in state.items() if key not in core}
    if is_dinov2:
        core.setdefault(MASK, torch.zeros(0))  # by which timm knows it
    count = len(core.keys() - {MASK})
    fitted = checkpoint_filter_fn(core, network)
    if len(fitted) < count:
        raise InputError("it has a layer of its blocks twice, under different names")
    line = f"position embeddings interpolated from {side} x {side} patches to {grid[0]} x {grid[1]}"
    return others | fitted, [line] * interpolated
