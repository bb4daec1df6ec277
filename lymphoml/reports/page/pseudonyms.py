"""Names of patients for a page that others may see: stable, and nobody's without the key.

A keyed digest, since ids are few: whoever may try all of them would undo an unkeyed one. The same
patient has the same pseudonym on every page made with one key, which is what lets a hospital speak
of a patient across runs. Without the key nothing breaks but that.
"""

import hmac
import os
import secrets
from base64 import b32encode
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from lymphoml.core.errors import InputError
from lymphoml.core.files import atomic_write

LENGTH = 32  # bytes of the key
SHORTEST = 6  # letters and digits of a pseudonym, 5 bits each


def pseudonyms(patients: Sequence[str], key: bytes) -> dict[str, str]:
    """`P-7KQ2M4` for each of some patients, all different: as long as it takes, six at least."""
    digests = {
        patient: b32encode(hmac.digest(key, patient.encode(), "sha256")).decode()
        for patient in patients
    }
    length = SHORTEST
    while len({digest[:length] for digest in digests.values()}) < len(digests):
        length += 1
    return {patient: f"P-{digest[:length]}" for patient, digest in digests.items()}


def key_file() -> Path:
    """Below the user's configuration folder, so that no run folder or cache takes it along."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "lymphoml" / "pseudonyms.key"


def read_key() -> bytes:
    """The user's key, made where there is none; InputError where it cannot be, or is damaged."""
    path = key_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                with atomic_write(path, private=True) as file:
                    file.write(secrets.token_bytes(LENGTH))
        key = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: the key of the pseudonyms cannot be read or made ({error.strerror}); set "
            f"XDG_CONFIG_HOME to a folder of yours"
        ) from None
    if len(key) != LENGTH:
        raise InputError(
            f"{path}: is no key of {LENGTH} bytes; put back a copy, or remove it for new pseudonyms"
        )
    return key
