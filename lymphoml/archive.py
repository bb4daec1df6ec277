"""What `torch.save` wrote, looked at before torch opens it: plain tensors, no larger than the file.

`weights_only=True` runs no code, yet lets a small file ask for any amount of memory: compressed
records, `bytearray(10**12)`, `torch.Tensor(10**12)`.
"""

import pickletools
import zipfile
from pathlib import Path

SHORT = 1 << 25  # bytes of the description of the tensors; of a network of a thousand, 0.2 MB
NAMES = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {kind}Storage" for kind in (
        "Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")),
}  # fmt: skip


def check_archive(path: Path) -> None:
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
