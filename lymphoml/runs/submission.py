"""The file that Kaggle scores: checked against the test table, sent by Kaggle's client."""

import csv
import io
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from pathlib import Path

from lymphoml.core.errors import InputError, one_line
from lymphoml.core.untrusted import read_bytes

CONFIRMATION = "Successfully submitted"
NO_CREDENTIALS = (
    "Kaggle's client has no valid credentials. Put an API token (made in the settings of your "
    "Kaggle account) into the environment variable KAGGLE_API_TOKEN or the file "
    "~/.kaggle/access_token, or run `kaggle auth login`; one that exists is wrong or expired."
)


def check_submission(path: Path, test_ids: Sequence[str], header: tuple[str, str]) -> None:
    """Raise InputError, a line a kind of problem, unless each of `test_ids` has one label."""
    try:
        text = read_bytes(path).decode(errors="replace")
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except (OSError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {one_line(error)}") from None
    found = rows[0] if rows else ["nothing"]
    if found != list(header):
        raise InputError(f"{path}:1: the header is {','.join(found)}, must be {','.join(header)}")
    for number, row in enumerate(rows, start=1):
        if len(row) != 2:
            raise InputError(f"{path}:{number}: must have exactly 2 values")
    times = Counter(patient for patient, _ in rows[1:])
    groups: dict[str, Collection[str]] = {
        "test patients without a label, must have one": set(test_ids) - times.keys(),
        "patients that are not in the test table, leave them out": times.keys() - set(test_ids),
        "patients given more than once, keep one": [each for each in times if times[each] > 1],
        "labels other than 0 and 1": [f"{p}={v}" for p, v in rows[1:] if v not in ("0", "1")],
    }
    if wrong := {problem: names for problem, names in groups.items() if names}:
        raise InputError(f"{path}: {len(names)} {problem}: {', '.join(sorted(names))}"
                         for problem, names in wrong.items())  # fmt: skip


def submit(file: Path, competition: str, message: str, timeout: float = 300.0) -> str:
    """Send `file` with Kaggle's own client and return its confirmation.

    The client exits with 0 after a failed upload, so only its message of success counts. Anything
    else, `timeout` seconds without an answer included, raises InputError in one line.
    """
    if find_spec("kaggle") is None:
        raise InputError("Kaggle's client is not installed. Run make setup.")
    options = f"--competition={competition}", f"--file={file}", f"--message={message}"
    command = [sys.executable, "-m", "kaggle", "-W", "competitions", "submit", "--quiet", *options]
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8",
            errors="replace", timeout=timeout,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise InputError(
            f"Kaggle did not answer within {timeout:g} seconds; the file may have arrived all the "
            f"same: look at `kaggle competitions submissions {competition}` before sending it again"
        ) from None
    out, err = ([line.strip() for line in text.splitlines() if line.strip()]
                for text in (answer.stdout, answer.stderr))  # fmt: skip
    confirmed = [line for line in out if line.startswith(CONFIRMATION)]
    if answer.returncode == 0 and confirmed:
        return confirmed[-1]
    if any(line.startswith("Authentication required") for line in out):
        raise InputError(NO_CREDENTIALS)
    lines = (out or err) if answer.returncode == 0 else (err or out)
    reason = lines[-1] if lines else f"nothing (exit code {answer.returncode})"
    raise InputError(
        f"{file} was not confirmed as submitted to {competition}; Kaggle's client answered: "
        f"{_without_secrets(reason)}"
    )


def _without_secrets(line: str) -> str:
    """The client quotes a malformed token in its error: an HTTP header, or a too long file name."""
    secrets = [os.environ.get(name, "").strip() for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY")]
    alternatives = [r"(?<=Bearer )\S+", *(re.escape(secret) for secret in secrets if secret)]
    return re.sub("|".join(alternatives), "***", line)
