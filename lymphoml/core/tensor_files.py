"""Check files of tensors before torch or safetensors opens them: plain, and bounded in memory.

`weights_only=True` runs no code, but lets a small file request any amount of memory: by compressed
records, `bytearray(10**12)` or `torch.Tensor(10**12)`. safetensors allocates its header unseen.
"""

import json
import pickletools
import stat
import zipfile
from pathlib import Path
from typing import Any

MAX_DESCRIPTION = 1 << 25  # bytes of a pickle of tensors; 0.2 MB for a network of 1,000 tensors
MAX_ITEMS = 1 << 20  # in the lists and mappings of a checkpoint; 0.02 million for 5,000 features
MAX_HEADER = 4 << 20  # bytes of a safetensors header; 0.1 MB for a network of 1,000 tensors
TENSOR_GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {kind}Storage" for kind in (
        "Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")),
}  # fmt: skip
CALLING_OPCODES = {
    "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID",
}  # fmt: skip


def check_torch_archive(path: Path) -> None:
    """Raise ValueError unless `path` is from `torch.save`, of plain tensors no larger than it."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            if any(record.compress_type != zipfile.ZIP_STORED for record in records):
                raise ValueError("its records are compressed")
            if sum(record.file_size for record in records) > path.stat().st_size:
                raise ValueError("its records are larger than the file")
            descriptions = [record for record in records if record.filename.endswith("/data.pkl")]
            if len(descriptions) != 1 or descriptions[0].file_size > MAX_DESCRIPTION:
                raise ValueError("it is no archive of torch.save")
            _check_description(archive.read(descriptions[0]))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, KeyError):
        raise ValueError("it is no complete archive of torch.save, version 1.6 or later") from None


def check_claims(content: Any) -> None:
    """Raise ValueError for a tensor larger than its storage, or for more than MAX_ITEMS items.

    A stride of 0 makes a terabyte of one number; lists that repeat each other make 2^40 items.
    """
    items, pending = 0, [content]
    while pending:
        each = pending.pop()
        children = each.values() if isinstance(each, dict) else each
        if isinstance(each, dict | list | tuple):
            pending += children
            items += len(each)
        elif hasattr(each, "untyped_storage") and each.numel() > max(
            MAX_ITEMS, each.untyped_storage().nbytes() // each.element_size()
        ):
            raise ValueError(f"a tensor claims {each.numel():,} numbers, which it does not have")
        if items > MAX_ITEMS:
            raise ValueError(f"it has more than {MAX_ITEMS:,} values")


def _check_description(description: bytes) -> None:
    """Read the opcodes of a pickle without running it; only TENSOR_GLOBALS may be called."""
    try:
        for code, argument, _ in pickletools.genops(description):
            if code.name == "GLOBAL" and argument not in TENSOR_GLOBALS:
                raise ValueError(f"it contains more than plain tensors: {str(argument)[:80]!r}")
            if code.name in CALLING_OPCODES:
                raise ValueError(f"it contains more than plain tensors: {code.name}")
    except (IndexError, UnicodeDecodeError, OverflowError):
        raise ValueError("its description is corrupt") from None


def read_safetensors_header(path: Path) -> dict[str, Any]:
    """Return the header. Raises ValueError where it is too large, or has a key twice."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(MAX_HEADER, status.st_size - 8):
            raise ValueError(f"its header has a size of {length:,} bytes")
        try:
            header = json.loads(file.read(length), object_pairs_hook=_without_duplicates)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
            raise ValueError("its header is not JSON") from None
    if not isinstance(header, dict):
        raise ValueError("its header names no tensors")
    return header


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("its header has a duplicate key")
    return dict(pairs)
