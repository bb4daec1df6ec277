"""Write files whole or not at all; those about patients for their owner alone."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lymphoml.core.errors import InputError, quoted
from lymphoml.core.privacy import is_private
from lymphoml.core.untrusted import is_safe_text

if TYPE_CHECKING:  # half a second that most commands need not wait for
    import pandas as pd

UMASK = os.umask(0o077)
os.umask(UMASK)


@contextmanager
def atomic_write(path: Path, private: bool = False) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path` when the block succeeds, mode 0600 where private."""
    with with_filename(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            with open(temporary, "wb") as file:
                yield file
                fsync(file)
            if not private and not is_private(path):
                os.chmod(temporary, 0o666 & ~UMASK)  # mkstemp's own is 0600
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@contextmanager
def with_filename(path: Path) -> Iterator[None]:
    """Name `path` in an OSError of the block: the system names no file when a write fails."""
    try:
        yield
    except OSError as error:
        known = error.filename and Path(os.fsdecode(error.filename)).name
        if not known or known.startswith(f".{path.name}."):
            error.filename, error.filename2 = str(path), None
        raise


def sha256(path: Path) -> str:
    """Return the digest of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def remove_stale_temp_files(folder: Path, names: Iterable[str] = ("*",)) -> None:
    """Remove what killed processes left of these files; no other process may be writing them."""
    for name in names:
        for leftover in folder.glob(f".{name}.????????"):  # as mkstemp names them
            leftover.unlink(missing_ok=True)


def write_text(path: Path, text: str, private: bool = False) -> None:
    with atomic_write(path, private) as file:
        file.write(text.encode())


def write_csv(path: Path, table: "pd.DataFrame", private: bool = False) -> None:
    write_text(path, csv_text(path, table), private)


def csv_text(path: Path, table: "pd.DataFrame") -> str:
    """Return the content of `path`. Raises InputError for a formula or unprintable text."""
    texts = table.select_dtypes(include=["object", "string", "category"])
    for word in [*map(str, table.columns), *texts.to_numpy(object).ravel()]:
        if isinstance(word, str) and not is_safe_text(word):
            raise InputError(
                f"{path}: {quoted(word, 60)} is a formula in a spreadsheet, or not printable; "
                f"rename it in the cohort"
            )
    return table.to_csv(index=False)


def write_json(path: Path, content: Any, private: bool = False) -> None:
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n", private)
