"""Published layouts of vision transformers, recognised by their keys, as timm names the tensors."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lymphoml.core.errors import InputError

State = dict[str, Tensor]
MASK = "mask_token"  # of DINOv2's training; no part of the encoder
# What training programs wrap an encoder in, from the outside.
CONTAINERS = ("teacher", "state_dict", "model")
PREFIXES = ("encoder.", "module.", "teacher.", "backbone.", "model.", "dinov2.",
            "dinov2_with_registers.")  # fmt: skip
# What these have beside the encoder: heads of any task, and the student of a teacher.
HEADS = {"fc", "classifier", "head", "heads", "dino_head", "ibot_head", "student", MASK}


class Layout(NamedTuple):
    name: str
    key: str  # that only this layout has
    names: tuple[tuple[str, str], ...]  # regular expressions of keys, and what they become


LAYOUTS = (
    Layout("DINOv2 of Hugging Face", "embeddings.patch_embeddings.projection.weight", (
        (r"embeddings\.(cls_token|mask_token|register_tokens)", r"\1"),
        (r"embeddings\.position_embeddings", "pos_embed"),
        (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"encoder\.layer\.(\d+)\.attention\.attention\.", r"blocks.\1.attn."),
        (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
        (r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
        (r"encoder\.layer\.(\d+)\.mlp\.weights_in\.", r"blocks.\1.mlp.fc1."),
        (r"encoder\.layer\.(\d+)\.mlp\.weights_out\.", r"blocks.\1.mlp.fc2."),
        (r"encoder\.layer\.", "blocks."),
        (r"layernorm\.", "norm."),
    )),
    Layout("vision transformer of torchvision", "conv_proj.weight", (
        (r"class_token", "cls_token"),
        (r"conv_proj\.", "patch_embed.proj."),
        (r"encoder\.pos_embedding", "pos_embed"),
        (r"encoder\.layers\.encoder_layer_(\d+)\.ln_([12])\.", r"blocks.\1.norm\2."),
        (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_", r"blocks.\1.attn.qkv."),
        (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.",
         r"blocks.\1.attn.proj."),
        (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(0|linear_1)\.", r"blocks.\1.mlp.fc1."),
        (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(3|linear_2)\.", r"blocks.\1.mlp.fc2."),
        (r"encoder\.ln\.", "norm."),
    )),
    Layout("DINOv2", "register_tokens", ()),
    Layout("DINOv2", MASK, ()),
)  # fmt: skip


def unwrap(content: Any) -> tuple[Any, list[str]]:
    """Return the mapping of tensors in a training program's file, and the keys next to it."""
    for name in CONTAINERS if isinstance(content, Mapping) else ():
        if isinstance(content.get(name), Mapping) and content[name]:
            return content[name], [str(key) for key in content if key != name]
    return content, []


def strip_prefixes(state: State, own: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    """Return the encoder's entries under the network's names `own`, and the keys of the others.

    Next to `encoder.` any others may be left out, as of a MILModel; else only HEADS.
    """
    others: list[str] = []
    while not any(key in own for key in state) and not any(each.key in state for each in LAYOUTS):
        for prefix in PREFIXES:
            outside = [key for key in state if not key.startswith(prefix)]
            if len(outside) < len(state) and (prefix == "encoder." or all(map(is_head, outside))):
                break
        else:
            return state, others
        others += outside
        state = {key[len(prefix) :]: each for key, each in state.items() if key.startswith(prefix)}
    return state, others


def is_head(key: str) -> bool:
    """Return whether an entry may be left out where the encoder has none of its name."""
    return key.partition(".")[0] in HEADS


def to_timm(state: State, network: nn.Module) -> tuple[State, list[str]]:
    """Return the entries as `network` names them, and lines on what was changed. InputError."""
    layout = next((each for each in LAYOUTS if each.key in state), None)
    renamed: State = {}
    for key, tensor in state.items():
        for pattern, name in layout.names if layout else ():
            if re.match(pattern, key):
                key = re.sub(pattern, name, key, count=1)
                break
        # DINOv2's blocks may be in chunks, each block with its number in the whole.
        key = re.sub(r"^blocks\.\d+\.(\d+\.)", r"blocks.\1", key)
        if key in renamed:
            raise InputError(f"it has {key} twice, under different names")
        renamed[key] = tensor
    state = _join_attention(renamed)
    lines = [] if layout is None else [f"{layout.name}, {len(state)} tensors"]
    if "patch_embed.proj.weight" in state:
        state, changed = _fit_timm(state, network)
        lines += changed
    return state, lines


def _join_attention(state: State) -> State:
    """Return the entries with query, key and value of each block in one tensor."""
    joined = dict(state)
    for key in state:
        if found := re.fullmatch(r"(blocks\.\d+\.attn\.)query(\.\w+)", key):
            names = [f"{found[1]}{part}{found[2]}" for part in ("query", "key", "value")]
            parts = [state[name] for name in names if name in state]
            if len(parts) == 3 and len({part.shape for part in parts}) == 1 and parts[0].dim():
                joined[f"{found[1]}qkv{found[2]}"] = torch.cat(parts)
                for name in names:
                    del joined[name]
    return joined


def _fit_timm(state: State, network: nn.Module) -> tuple[State, list[str]]:
    """Return the entries as timm converts DINOv2's, position embeddings in the network's grid.

    Unchanged where they do not fit, for whoever loads them to say why.
    """
    from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

    if not isinstance(network, VisionTransformer):
        return state, []
    own, registers = network.state_dict(), "register_tokens" in state
    same = ("patch_embed.proj.weight", "cls_token")
    if any(key in own and key in state and state[key].shape != own[key].shape for key in same):
        return state, []
    if registers and not ({"pos_embed", "cls_token"} <= state.keys() and network.no_embed_class):
        return state, []
    positions, has = state.get("pos_embed"), own.get("pos_embed")
    grid, side = network.patch_embed.grid_size, 0
    if positions is not None and has is not None:
        prefix = 1 if registers else 0 if network.no_embed_class else network.num_prefix_tokens
        if positions.dim() != 3 or positions.shape[0] != 1 or positions.shape[2] != has.shape[2]:
            return state, []
        tokens = positions.shape[1] - prefix
        side = math.isqrt(max(tokens, 0))
        if tokens != math.prod(grid) and (side == 0 or side * side != tokens):
            return state, []
    interpolated = side > 0 and side * side != math.prod(grid)
    patch = network.patch_embed.patch_size
    size = network.patch_embed.img_size or patch
    is_whole = all(pixels % step == 0 for pixels, step in zip(size, patch, strict=True))
    if not is_whole and (interpolated or registers or MASK in state):
        raise InputError(
            f"its patches have {patch[0]} pixels a side, and images of {size[0]} are no multiple; "
            f"set data.resize={max(1, size[0] // patch[0]) * patch[0]}"
        )
    core = {key: each for key, each in state.items() if key.startswith(("blocks.", "patch_embed."))
            or key in ("cls_token", "pos_embed", "register_tokens", MASK)}  # fmt: skip
    if registers or any(".mlp.w12." in key for key in core):
        core.setdefault(MASK, torch.zeros(0))  # by which timm knows DINOv2
    fitted = {key: each for key, each in state.items() if key not in core}
    fitted |= checkpoint_filter_fn(core, network)  # which empties its argument
    line = f"position embeddings interpolated from {side} x {side} patches to {grid[0]} x {grid[1]}"
    return fitted, [line] if interpolated else []
