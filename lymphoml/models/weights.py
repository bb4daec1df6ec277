"""Encoder weights from a file: a state dict, as `torch.save(network.state_dict(), path)` leaves it.

Keys may start with `encoder.`, so the state dict of a whole MILModel will do: then only those are
read. Classifier entries (`fc.`, `classifier.`, `head.`) that the encoder has no use for are
dropped, and running statistics where GroupNorm has replaced BatchNorm. Everything else must fit.
"""

import json
import pickletools
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lymphoml.core.errors import InputError, one_line

# The header of a safetensors file, read before the library allocates anything for it.

LONGEST = 4 << 20  # bytes of a header; of a network of a thousand tensors, 0.1 MB
BITS = {"F64": 64, "I64": 64, "F32": 32, "I32": 32, "F16": 16, "BF16": 16, "I16": 16, "I8": 8,
        "U8": 8, "BOOL": 8}  # fmt: skip


def check_header(path: Path) -> None:
    """Raises ValueError unless the tensors' bytes follow one another and fill the file."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(LONGEST, status.st_size - 8):
            raise ValueError(f"its header claims {length:,} bytes")
        try:
            header = json.loads(file.read(length), object_pairs_hook=_once)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
            raise ValueError("its header is no JSON") from None
    if not isinstance(header, dict):
        raise ValueError("its header names no tensors")
    spans = sorted(_span(name, each) for name, each in header.items() if name != "__metadata__")
    end = 0
    for start, stop in spans:
        if start != end:
            raise ValueError("its tensors overlap or leave gaps")
        end = stop
    if 8 + length + end != status.st_size:
        raise ValueError("its tensors do not fill the file")


def _span(name: str, told: Any) -> tuple[int, int]:
    try:
        bits = BITS[told["dtype"]]
        start, stop = map(_whole, told["data_offsets"])
        for side in map(_whole, told["shape"]):
            bits *= side
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"it does not describe {name[:60]!r} as a tensor") from None
    if (stop - start) * 8 != bits:
        raise ValueError(f"its {name[:60]!r} has other bytes than its shape")
    return start, stop


def _whole(number: Any) -> int:
    if type(number) is not int or not 0 <= number < 1 << 48:
        raise ValueError
    return number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("its header names a tensor twice")
    return dict(pairs)


# What `torch.save` wrote, looked at before torch opens it: plain tensors, no larger than the file.
#
# `weights_only=True` runs no code, yet lets a small file ask for any amount of memory: compressed
# records, `bytearray(10**12)`, `torch.Tensor(10**12)`.
#

SHORT = 1 << 25  # bytes of the description of the tensors; of a network of a thousand, 0.2 MB
NAMES = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {kind}Storage" for kind in (
        "Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")),
}  # fmt: skip


def check_torch_archive(path: Path) -> None:
    """Raises ValueError with what is wrong in a few words, OSError where it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            if any(each.compress_type != zipfile.ZIP_STORED for each in records):
                raise ValueError("its records are compressed")
            if sum(each.file_size for each in records) > path.stat().st_size:
                raise ValueError("its records are larger than the file")
            descriptions = [each for each in records if each.filename.endswith("/data.pkl")]
            if len(descriptions) != 1 or descriptions[0].file_size > SHORT:
                raise ValueError("it is no archive of torch.save")
            _check_names(archive.read(descriptions[0]))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, KeyError):
        raise ValueError("it is no whole archive of torch.save, version 1.6 or later") from None


def _check_names(description: bytes) -> None:
    """Only NAMES are called; told by reading the description, none of which is run."""
    try:
        for code, argument, _ in pickletools.genops(description):
            if code.name == "GLOBAL" and argument not in NAMES:
                raise ValueError(f"it holds more than plain tensors: {str(argument)[:80]!r}")
            if code.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2",
                             "EXT4", "PERSID"):  # fmt: skip
                raise ValueError(f"it holds more than plain tensors: {code.name}")
    except (IndexError, UnicodeDecodeError, OverflowError):
        raise ValueError("its description is damaged") from None


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
            check_torch_archive(path)
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
