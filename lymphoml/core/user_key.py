"""A user's secret key, without which nobody gets from a pseudonym or a digest to a person."""

import hashlib
import os
import secrets
from pathlib import Path

from filelock import FileLock

from lymphoml.core.errors import InputError
from lymphoml.core.files import atomic_write

KEY_BYTES = 32


def key_file() -> Path:
    """Return its place: below the user's configuration folder, so in no run folder or cache."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "lymphoml" / "pseudonyms.key"


def read_key() -> bytes:
    """Return it, made if missing. Raises InputError where that fails, or it is corrupt."""
    path = key_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                with atomic_write(path, private=True) as file:
                    file.write(secrets.token_bytes(KEY_BYTES))
        key = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: your secret key cannot be read or made ({error.strerror}); set "
            f"XDG_CONFIG_HOME to a folder of yours"
        ) from None
    if len(key) != KEY_BYTES:
        raise InputError(
            f"{path}: must have {KEY_BYTES} bytes; restore a copy, or remove it for new pseudonyms"
        )
    return key


def key_name() -> str:
    """Return what says of two digests that one key made them."""
    return hashlib.sha256(read_key()).hexdigest()[:8]
