"""Make pseudonyms: stable, by a keyed digest, not reversible without the user's key."""

import hmac
import os
import secrets
from base64 import b32encode
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from lymphoml.core.errors import InputError
from lymphoml.core.files import atomic_write

KEY_BYTES = 32
MIN_LENGTH = 6  # letters and digits of a pseudonym, 5 bits each


def pseudonyms(patients: Sequence[str], key: bytes) -> dict[str, str]:
    """A name like `P-7KQ2M4` for each patient, all different."""
    digests = {
        patient: b32encode(hmac.digest(key, patient.encode(), "sha256")).decode()
        for patient in patients
    }
    length = MIN_LENGTH
    while len({digest[:length] for digest in digests.values()}) < len(digests):
        length += 1
    return {patient: f"P-{digest[:length]}" for patient, digest in digests.items()}


def key_file() -> Path:
    """Below the user's configuration folder, so that the key is in no run folder or cache."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "lymphoml" / "pseudonyms.key"


def read_key() -> bytes:
    """The user's key, made if missing. Raises InputError where that fails, or it is corrupt."""
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
            f"{path}: the key of the pseudonyms cannot be read or made ({error.strerror}); set "
            f"XDG_CONFIG_HOME to a folder of yours"
        ) from None
    if len(key) != KEY_BYTES:
        raise InputError(
            f"{path}: must have {KEY_BYTES} bytes; restore a copy, or remove it for new pseudonyms"
        )
    return key
