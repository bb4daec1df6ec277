"""The file that Kaggle scores: written and checked against the test table, sent by its client."""

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

CONFIRMATION = "Successfully submitted"
NO_CREDENTIALS = (
    "Kaggle's client has no valid credentials: put an API token (made in the settings of your "
    "Kaggle account) into the environment variable KAGGLE_API_TOKEN or the file "
    "~/.kaggle/access_token, or run `kaggle auth login`; one that is there is wrong or expired"
)


def write_submission(
    predictions: pd.DataFrame,
    test_ids: Sequence[str],
    path: Path,
    header: tuple[str, str] = ("ID", "LABEL"),
) -> None:
    """Writes `predictions` (columns patient, label) in the order of `test_ids`, atomically.

    Raises InputError, leaving `path` as it was, unless every test patient has one label, 0 or 1.
    """
    pairs = list(zip(predictions["patient"], predictions["label"], strict=True))
    _refuse(_problems(pairs, test_ids, "the predictions"))
    label_of = {patient: int(label) for patient, label in pairs}
    rows = [header, *((patient, label_of[patient]) for patient in test_ids)]
    write_text(path, "".join(f"{patient},{label}\n" for patient, label in rows))


def check_submission(
    path: Path, test_ids: Sequence[str], header: tuple[str, str] = ("ID", "LABEL")
) -> None:
    """Raises InputError unless the file at `path` is a submission for exactly `test_ids`."""
    if not path.exists():
        raise InputError(f"{path}: no such file; write it with predict.py first")
    try:
        text = read_bytes(path).decode(errors="replace")
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except (OSError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {one_line(error)}") from None
    if not rows or rows[0] != list(header):
        found = ",".join(rows[0]) if rows else "nothing"
        raise InputError(f"{path}, line 1: the header is {found}, must be {','.join(header)}")
    wide = [number for number, row in enumerate(rows, start=1) if len(row) != 2]
    if wide:
        raise InputError(f"{path}, line {wide[0]}: must have exactly 2 values")
    _refuse(_problems([(row[0], row[1]) for row in rows[1:]], test_ids, str(path)))


def submit(file: Path, competition: str, message: str, timeout: float = 300.0) -> str:
    """Sends `file` with Kaggle's own client and returns its confirmation.

    The client exits with 0 after a failed upload, so that only its word of success counts. Whatever
    else happens, `timeout` seconds without an answer included, raises InputError in one line.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file; write it with predict.py first")
    if find_spec("kaggle") is None:
        raise InputError("Kaggle's client is not installed: make setup installs it")
    words = f"--competition={competition}", f"--file={file}", f"--message={message}"
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "kaggle", "-W", "competitions", "submit", "--quiet", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"Kaggle did not answer within {timeout:g} seconds; the file may have arrived all the "
            f"same: look at `kaggle competitions submissions {competition}` before sending it again"
        ) from None
    said = [line.strip() for line in answer.stdout.splitlines() if line.strip()]
    complained = [line.strip() for line in answer.stderr.splitlines() if line.strip()]
    confirmed = [line for line in said if line.startswith(CONFIRMATION)]
    if answer.returncode == 0 and confirmed:
        return confirmed[-1]
    if any(line.startswith("Authentication required") for line in said):
        raise InputError(NO_CREDENTIALS)
    lines = (said or complained) if answer.returncode == 0 else (complained or said)
    reason = lines[-1] if lines else f"nothing (exit code {answer.returncode})"
    raise InputError(
        f"{file} was not confirmed as submitted to {competition}; Kaggle's client said: "
        f"{_without_secrets(reason)}"
    )


def _problems(
    pairs: Sequence[tuple[object, object]], test_ids: Sequence[str], where: str
) -> Iterable[str]:
    """One line for each way in which (patient, label) `pairs` are no submission for `test_ids`."""
    times = Counter(patient for patient, _ in pairs)
    groups = {
        "test patients without a label, must have one": [p for p in test_ids if p not in times],
        "patients that are not in the test table, leave them out": times.keys() - set(test_ids),
        "patients given more than once, keep one": [p for p in times if times[p] > 1],
        "labels other than 0 and 1": [f"{p}={v}" for p, v in pairs if v not in (0, 1, "0", "1")],
    }
    for problem, names in groups.items():
        if names:
            yield f"{where}: {len(names)} {problem}: {', '.join(sorted(map(str, names)))}"


def _refuse(problems: Iterable[str]) -> None:
    if found := list(problems):
        raise InputError(found)


def _without_secrets(line: str) -> str:
    """The client quotes a malformed token in its error: an HTTP header, or a too long file name."""
    secrets = [os.environ.get(name, "").strip() for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY")]
    alternatives = [r"(?<=Bearer )\S+", *(re.escape(secret) for secret in secrets if secret)]
    return re.sub("|".join(alternatives), "***", line)
