"""Kaggle's own client as a process: what it answers, and why not."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec

from lymphoml.core.errors import InputError

NO_CREDENTIALS = (
    "Kaggle's client has no valid credentials. Put an API token (made in the settings of your "
    "Kaggle account) into the environment variable KAGGLE_API_TOKEN or the file "
    "~/.kaggle/access_token, or run `kaggle auth login`; one that exists is wrong or expired."
)


@dataclass(frozen=True)
class Answer:
    """What the client printed, without empty lines; an exit code of 0 does not mean success."""

    code: int
    out: list[str]
    err: list[str]

    @property
    def reason(self) -> str:
        """The line that says most about a failure, without credentials."""
        lines = (self.out or self.err) if self.code == 0 else (self.err or self.out)
        return _without_secrets(lines[-1] if lines else f"nothing (exit code {self.code})")


def ask_kaggle(*words: str, timeout: float) -> Answer:
    """Run `kaggle competitions WORDS`. Raises InputError where it is missing or has no credentials.

    After `timeout` seconds it is stopped: subprocess.TimeoutExpired.
    """
    if find_spec("kaggle") is None:
        raise InputError("Kaggle's client is not installed. Run make setup.")
    process = subprocess.run(
        [sys.executable, "-m", "kaggle", "-W", "competitions", *words], timeout=timeout,
        stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace",
    )  # fmt: skip
    out, err = ([line.strip() for line in text.splitlines() if line.strip()]
                for text in (process.stdout, process.stderr))  # fmt: skip
    if any(line.startswith("Authentication required") for line in out):
        raise InputError(NO_CREDENTIALS)
    return Answer(process.returncode, out, err)


def _without_secrets(line: str) -> str:
    """The client quotes a malformed token in its error: an HTTP header, or a too long file name."""
    secrets = [os.environ.get(name, "").strip() for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY")]
    alternatives = [r"(?<=Bearer )\S+", *(re.escape(secret) for secret in secrets if secret)]
    return re.sub("|".join(alternatives), "***", line)
