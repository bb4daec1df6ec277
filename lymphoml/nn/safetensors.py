"""The header of a safetensors file, read before the library allocates anything for it."""

import json
import stat
from pathlib import Path
from typing import Any

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
