"""Files appear whole or not at all: written beside their place, flushed, then moved into it."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lymphoml.errors import InputError, quoted
from lymphoml.foreign import harmless

if TYPE_CHECKING:  # half a second that most commands need not wait for
    import pandas as pd

UMASK = os.umask(0o077)
os.umask(UMASK)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends well, and vanishes if not.

    The temporary file lies in the same folder, so that the move never crosses a file system.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~UMASK)  # mkstemp's own mode would lock colleagues out
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Raises InputError where a text would be a formula in a spreadsheet, or cannot be seen."""
    words = [str(name) for name in table.columns]
    for name in table.select_dtypes(include=["object", "string", "category"]):
        words += [each for each in table[name] if isinstance(each, str)]
    for word in words:
        if not harmless(word):
            raise InputError(
                f"{path}: {quoted(word, 60)} is a formula to a spreadsheet, or cannot be seen; "
                f"rename it where it comes from"
            )
    write_text(path, table.to_csv(index=False))


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
