"""The file that Kaggle scores: written, checked against the test table, sent by Kaggle's client."""

import csv
import io
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from lymphoml.core.errors import InputError, one_line
from lymphoml.core.files import write_text
from lymphoml.core.untrusted import read_bytes

Header = tuple[str, str]
CONFIRMATION = "Successfully submitted"
NO_CREDENTIALS = (
    "Kaggle's client has no valid credentials. Put an API token (made in the settings of your "
    "Kaggle account) into the environment variable KAGGLE_API_TOKEN or the file "
    "~/.kaggle/access_token, or run `kaggle auth login`; one that exists is wrong or expired."
)


def write_submission(
    predictions: pd.DataFrame,
    test_ids: Sequence[str],
    path: Path,
    header: Header = ("ID", "LABEL"),
) -> None:
    """Write `predictions` (columns patient, label) in the order of `test_ids`, atomically.

    Raises InputError, leaving `path` as it was, unless every test patient has one label, 0 or 1.
    """
    pairs = list(zip(predictions["patient"], predictions["label"], strict=True))
    _check_pairs(pairs, test_ids, "the predictions")
    label_of = {patient: int(label) for patient, label in pairs}
    rows = [header, *((patient, label_of[patient]) for patient in test_ids)]
    write_text(path, "".join(f"{patient},{label}\n" for patient, label in rows))


def check_submission(path: Path, test_ids: Sequence[str], header: Header = ("ID", "LABEL")) -> None:
    """Raise InputError unless the file at `path` is a submission for exactly `test_ids`."""
    _check_exists(path)
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
    _check_pairs([(row[0], row[1]) for row in rows[1:]], test_ids, str(path))


def submit(file: Path, competition: str, message: str, timeout: float = 300.0) -> str:
    """Send `file` with Kaggle's own client and return its confirmation.

    The client exits with 0 after a failed upload, so only its message of success counts. Anything
    else, `timeout` seconds without an answer included, raises InputError in one line.
    """
    _check_exists(file)
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
    out, err = (
        [line.strip() for line in text.splitlines() if line.strip()]
        for text in (answer.stdout, answer.stderr)
    )
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


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path}: no such file. Write it with predict.py first.")


def _check_pairs(
    pairs: Sequence[tuple[object, object]], test_ids: Sequence[str], where: str
) -> None:
    """Raise InputError, a line a kind of problem, unless each test id has one label."""
    times = Counter(patient for patient, _ in pairs)
    groups: dict[str, Iterable[object]] = {
        "test patients without a label, must have one": [p for p in test_ids if p not in times],
        "patients that are not in the test table, leave them out": times.keys() - set(test_ids),
        "patients given more than once, keep one": [p for p in times if times[p] > 1],
        "labels other than 0 and 1": [f"{p}={v}" for p, v in pairs if v not in (0, 1, "0", "1")],
    }
    problems = [
        f"{where}: {len(names)} {problem}: {', '.join(names)}"
        for problem, found in groups.items()
        if (names := sorted(map(str, found)))
    ]
    if problems:
        raise InputError(problems)


def _without_secrets(line: str) -> str:
    """The client quotes a malformed token in its error: an HTTP header, or a too long file name."""
    secrets = [os.environ.get(name, "").strip() for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY")]
    alternatives = [r"(?<=Bearer )\S+", *(re.escape(secret) for secret in secrets if secret)]
    return re.sub("|".join(alternatives), "***", line)
