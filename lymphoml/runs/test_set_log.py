"""How often a run was applied to patients without a label: `ledger.jsonl`, a line a use.

Each line is an object: `when` (UTC), `run` (the folder's name), `kind`, `sha256` of the file, and
`patients`, how many of them had no label; `folds`, where only these models predicted; of a
submission also `competition`; and `seal`, a digest of all this, without which a line counts as
unreadable. Kinds are `predict`; `attempt`, before a file is sent; and `confirmed`, with Kaggle's
`confirmation`. No line names a patient, a path or a user. The owner of the folder can change it: it
is a record, not a proof.
"""

import errno
import fcntl
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lymphoml.core.files import with_filename
from lymphoml.runs.checksums import seal

LEDGER = "ledger.jsonl"


def record(run: Path, kind: str, sha256: str, patients: int, **more: Any) -> None:
    """Append a line to the run's ledger, on disk when this returns; OSError where it cannot be.

    One process at a time: the look for a torn last line, which a kill or a full disk leaves and the
    next line does not join, must not see half of another's write.
    """
    path = run / LEDGER
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entry: dict[str, Any] = {"when": now, "run": run.resolve().name, "kind": kind, "sha256": sha256}
    more = {key: value for key, value in more.items() if value}
    entry |= {"patients": patients} | more
    line = json.dumps(entry | {"seal": seal(entry)}).encode() + b"\n"
    with with_filename(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)  # released with the handle
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(handle, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)


@dataclass(frozen=True)
class UsageCount:
    """What the ledgers of some runs contain together."""

    uses: int  # predictions of patients without a label
    files: int  # different ones among them
    attempts: int  # files sent
    confirmed: int  # of these, by Kaggle
    torn: int  # lines that are not as they were written


def count_uses(runs: Iterable[Path]) -> UsageCount | None:
    """Return None where none of the runs has a ledger."""
    if not (ledgers := [path for run in runs if (path := run / LEDGER).is_file()]):
        return None
    lines = [_parse(line) for path in ledgers for line in path.read_bytes().splitlines() if line]
    kinds = [line["kind"] for line in lines if line]
    return UsageCount(
        uses=kinds.count("predict"),
        files=len({line["sha256"] for line in lines if line and line["kind"] == "predict"}),
        attempts=kinds.count("attempt"),
        confirmed=kinds.count("confirmed"),
        torn=lines.count(None),
    )


def _parse(line: bytes) -> dict[str, Any] | None:
    """None where it is not a line as `record` wrote it, such as half of one."""
    try:
        content = json.loads(line)
        return content if content.pop("seal") == seal(content) else None
    except (ValueError, AttributeError, KeyError, TypeError):
        return None
