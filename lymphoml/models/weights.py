"""Encoder weights from a file: a state dict, as `torch.save(network.state_dict(), path)` writes it.

Keys may start with `encoder.`, so the state dict of a whole MILModel works too: then only those
are read. Classifier entries (`fc.`, `classifier.`, `head.`) that the encoder lacks are dropped, and
running statistics where GroupNorm has replaced BatchNorm. Everything else must fit.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from lymphoml.core.errors import InputError, one_line
from lymphoml.core.tensor_files import check_torch_archive, read_safetensors_header

PREFIX = "encoder."
CLASSIFIERS = ("fc.", "classifier.", "head.")
COUNTER = "num_batches_tracked"  # missing in older files; only a momentum of None reads it
STATISTICS = ("running_mean", "running_var", COUNTER)
MAX_KEYS_SHOWN = 3


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the file at `path` into `network`; raise InputError with everything that misfits."""
    state = _read_state_dict(path)
    if any(key.startswith(PREFIX) for key in state):
        state = {key[len(PREFIX) :]: state[key] for key in state if key.startswith(PREFIX)}
    own = network.state_dict()
    problems = [
        f"encoder weights: {path} {problem} {_format_keys(keys)}"
        for problem, keys in _mismatches(own, state).items()
        if keys
    ]
    if problems:
        raise InputError(problems)
    network.load_state_dict({key: state[key] for key in own if key in state}, strict=False)


def _mismatches(own: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, list[str]]:
    """Return the keys that do not fit, by what is wrong with them."""
    shared = [key for key in own if key in state]
    return {
        "has no": [key for key in own if key not in state and not key.endswith(COUNTER)],
        "has, unlike the encoder,": [
            key for key in state if key not in own
            and not key.startswith(CLASSIFIERS) and not key.endswith(STATISTICS)
        ],
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


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    if path.suffix not in (".pt", ".pth", ".safetensors"):
        raise InputError(
            f"encoder weights: {path}: must be null, default, or a .pt, .pth or .safetensors file"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            read_safetensors_header(path)
            content = load_file(path)
        else:
            check_torch_archive(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"encoder weights: {path} does not exist") from None
    except Exception as error:  # each library raises its own
        is_plain = isinstance(error, ValueError) or path.suffix == ".safetensors"
        reason = one_line(error)[:120] if is_plain else type(error).__name__
        problem = f"{path} cannot be read as plain tensors ({reason})"
        raise InputError(f"encoder weights: {problem}") from None
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"encoder weights: {path} is not a state dict: names and tensors only")
    return content


def _format_keys(keys: list[str]) -> str:
    rest = len(keys) - MAX_KEYS_SHOWN
    shown = ", ".join(key[:120] for key in keys[:MAX_KEYS_SHOWN])
    return f"{shown} and {rest} more" if rest > 0 else shown
