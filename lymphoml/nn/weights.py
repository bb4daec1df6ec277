"""Encoder weights from a file: a state dict, as `torch.save(network.state_dict(), path)` leaves it.

Keys may start with `encoder.`, so the state dict of a whole MILModel will do: then only those are
read. Classifier entries (`fc.`, `classifier.`, `head.`) that the encoder has no use for are
dropped, and running statistics where GroupNorm has replaced BatchNorm. Everything else must fit.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lymphoml.archive import check_archive
from lymphoml.errors import InputError, one_line
from lymphoml.nn.safetensors import check_header

PREFIX = "encoder."
HEADS = ("fc.", "classifier.", "head.")
COUNTER = "num_batches_tracked"  # older files lack it, and nothing but a momentum of None reads it
STATISTICS = ("running_mean", "running_var", COUNTER)


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the file at `path` into `network`; InputError if anything is missing or doesn't fit."""
    given = _read(path)
    if any(key.startswith(PREFIX) for key in given):
        given = {key[len(PREFIX) :]: given[key] for key in given if key.startswith(PREFIX)}
    own = network.state_dict()

    missing = [key for key in own if key not in given and not key.endswith(COUNTER)]
    spare = [key for key in given if key not in own]
    unknown = [key for key in spare if not key.startswith(HEADS) and not key.endswith(STATISTICS)]
    shared = [key for key in own if key in given]
    misfits = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(own[key].shape)}"
        for key in shared
        if given[key].shape != own[key].shape
    ]
    kinds = [
        f"{key} {given[key].dtype}"
        for key in shared
        if given[key].is_floating_point() != own[key].is_floating_point()
    ]
    broken = [key for key in shared if not torch.isfinite(given[key]).all()]
    findings = {
        "lacks": missing,
        "has, unlike the encoder,": unknown,
        "has the shape": misfits,
        "has other numbers than the encoder:": kinds,
        "has NaN or infinity in": broken,
    }
    problems = [
        f"encoder weights: {path} {finding} {_first(keys)}"
        for finding, keys in findings.items()
        if keys
    ]
    if problems:
        raise InputError(problems)
    network.load_state_dict({key: given[key] for key in shared}, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix not in (".pt", ".pth", ".safetensors"):
        raise InputError(
            f"encoder weights: {path}; allowed are null, default, and a .pt, .pth or "
            ".safetensors file"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            check_header(path)
            content = load_file(path)
        else:
            check_archive(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"encoder weights: {path} does not exist") from None
    except Exception as error:  # every reader has its own
        reason = one_line(error)[:120] if isinstance(error, ValueError) else type(error).__name__
        raise InputError(
            f"encoder weights: {path} cannot be read as plain tensors ({reason})"
        ) from None
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"encoder weights: {path} is no state dict: names and tensors only")
    return content


def _first(keys: Sequence[str], count: int = 3) -> str:
    rest = f" and {len(keys) - count} more" if len(keys) > count else ""
    return ", ".join(key[:120] for key in keys[:count]) + rest
