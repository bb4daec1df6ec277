"""Encoder weights from a file: a state dict, as `torch.save(network.state_dict(), path)` writes it.

Keys may start with `encoder.`, so the state dict of a whole MILModel works too: then the others
are dropped, as are the heads (`layouts.HEADS`) that the encoder lacks. What is dropped is printed.
Everything else must fit, under the encoder's names or in a layout of `models.layouts`.
"""

from collections.abc import Sequence
from functools import cache
from multiprocessing import parent_process
from pathlib import Path

import torch
from torch import Tensor, nn

from lymphoml.core.errors import InputError, one_line
from lymphoml.core.tensor_files import check_claims, check_torch_archive, read_safetensors_header
from lymphoml.models.layouts import MASK, State, is_head, strip_prefixes, to_timm, unwrap

SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
COUNTER = "num_batches_tracked"  # missing in older files; only a momentum of None reads it
STATISTICS = ("running_mean", "running_var")
MAX_KEYS_SHOWN = 3


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the file at `path` into `network`; raise InputError with everything that misfits."""
    own = network.state_dict()
    state, others = _read_state_dict(path, own)
    masks = [key for key in state if key.endswith(MASK) and key not in own]
    try:
        state, lines = to_timm(state, network)
    except InputError as error:
        raise InputError(f"encoder weights: {path}: {each}" for each in error.problems) from None
    problems = [
        f"encoder weights: {path} {problem} {_format_keys(keys)}"
        for problem, keys in _mismatches(own, state).items()
        if keys
    ]
    if problems:
        raise InputError(problems)
    network.load_state_dict({key: state[key] for key in own if key in state}, strict=False)
    for line in lines:
        _print_once(f"encoder weights: {path}: ", (line,))
    left = [key for key in state if key not in own and not key.endswith(MASK)]
    if dropped := [*others, *masks, *left]:
        _print_once(f"encoder weights: {path}: not part of the encoder, dropped: ", tuple(dropped))


def trained_norm(network: nn.Module, path: Path) -> str:
    """Return "group" for a file without the statistics of this network's BatchNorm, or "batch"."""
    own = network.state_dict()
    statistics = [key for key in own if key.endswith(STATISTICS)]
    has_any = not statistics or not _read_state_dict(path, own)[0].keys().isdisjoint(statistics)
    return "batch" if has_any else "group"


def _mismatches(own: State, state: State) -> dict[str, list[str]]:
    """Return the keys that do not fit, by what is wrong with them."""
    shared = [key for key in own if key in state]
    absent = [key for key in own if key not in state and not key.endswith(COUNTER)]
    foreign = [key for key in state if key not in own and not is_head(key)]
    # Of a norm that has a scale in both: only one of the two is a BatchNorm.
    scaled = {key.removesuffix(".weight") for key in shared}
    lost, unknown = (
        [key for key in keys if key.endswith(STATISTICS) and key.rpartition(".")[0] in scaled]
        for keys in (foreign, absent)
    )
    explained = {*lost, *(f"{key.rpartition('.')[0]}.{COUNTER}" for key in lost)}
    return {
        "was trained with BatchNorm; set model.encoder.norm=batch or frozen. It has": lost,
        "was trained with GroupNorm; set model.encoder.norm=group. It has no": unknown,
        "has no": [key for key in absent if key not in unknown],
        "has, unlike the encoder,": [key for key in foreign if key not in explained],
        "has the shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
            for key in shared if state[key].shape != own[key].shape
        ],
        "has another dtype than the encoder:": [
            f"{key} {state[key].dtype}" for key in shared
            if state[key].is_floating_point() != own[key].is_floating_point()
        ],
        "has NaN or infinity in": [key for key in shared if not torch.isfinite(state[key]).all()],
    }  # fmt: skip


def _read_state_dict(path: Path, own: State) -> tuple[State, list[str]]:
    """Return the encoder's entries, without prefix, and the keys of the others."""
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"encoder weights: {path}: must be null, default, or a .pt, .pth, .bin or .safetensors "
            "file"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            read_safetensors_header(path)
            content = load_file(path)
        else:
            check_torch_archive(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
            check_claims(content)
    except FileNotFoundError:
        raise InputError(f"encoder weights: {path} does not exist") from None
    except Exception as error:  # each library raises its own
        is_plain = isinstance(error, ValueError) or path.suffix == ".safetensors"
        reason = one_line(error)[:120] if is_plain else type(error).__name__
        problem = f"{path} cannot be read as plain tensors ({reason})"
        raise InputError(f"encoder weights: {problem}") from None
    content, outside = unwrap(content)
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"encoder weights: {path} is not a state dict: names and tensors only")
    state, others = strip_prefixes(content, own)
    return state, outside + others


@cache  # a run builds its encoder several times, and each process that computes features does
def _print_once(text: str, keys: tuple[str, ...]) -> None:
    if parent_process() is None:
        print(text + _format_keys(keys), flush=True)


def _format_keys(keys: Sequence[str]) -> str:
    rest = len(keys) - MAX_KEYS_SHOWN
    shown = ", ".join(key[:120] for key in keys[:MAX_KEYS_SHOWN])
    return f"{shown} and {rest} more" if rest > 0 else shown
