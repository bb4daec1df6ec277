"""The file that Kaggle scores: checked against the test table, sent by Kaggle's client."""

import csv
import io
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from lymphoml.core.errors import InputError, one_line
from lymphoml.core.kaggle_client import ask_kaggle
from lymphoml.core.untrusted import read_bytes

CONFIRMATION = "Successfully submitted"


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
    options = f"--competition={competition}", f"--file={file}", f"--message={message}"
    try:
        answer = ask_kaggle("submit", "--quiet", *options, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise InputError(
            f"Kaggle did not answer within {timeout:g} seconds; the file may have arrived all the "
            f"same: look at `kaggle competitions submissions {competition}` before sending it again"
        ) from None
    confirmed = [line for line in answer.out if line.startswith(CONFIRMATION)]
    if answer.code == 0 and confirmed:
        return confirmed[-1]
    raise InputError(
        f"{file} was not confirmed as submitted to {competition}; Kaggle's client answered: "
        f"{answer.reason}"
    )


def public_scores(competition: str, timeout: float = 60.0) -> dict[str, str] | None:
    """Return the public score of the newest submissions by reference number, "" before it is known.

    None where Kaggle does not list them: no reason not to send.
    """
    try:
        words = "submissions", competition, "--csv", "--quiet"
        answer = ask_kaggle(*words, timeout=timeout)
    except (subprocess.TimeoutExpired, InputError):
        return None
    if answer.code != 0:
        return None
    header = [n for n, line in enumerate(answer.out) if line.startswith("ref,")]
    rows = csv.DictReader(answer.out[header[0] :]) if header else ()
    return {row["ref"]: row.get("publicScore") or "" for row in rows}


def wait_for_score(competition: str, before: dict[str, str], timeout: float = 60.0) -> str | None:
    """Return the public score of the one submission that is not in `before`.

    None where Kaggle does not show it within `timeout` seconds, or a team mate sent one meanwhile.
    """
    end, pause = time.monotonic() + timeout, 1.0
    while (left := end - time.monotonic()) > 0:
        listed = public_scores(competition, left) or {}
        new = [score for reference, score in listed.items() if reference not in before]
        if len(new) > 1 or any(new):
            return new[0] if len(new) == 1 else None
        time.sleep(min(pause, left))
        pause *= 2
    return None
