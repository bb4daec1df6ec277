"""Read what an offline run of W&B leaves on disk."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LEVELDB, BLOCK, HEADER = b":W&B", 32768, 7  # how a record file starts; sizes of its log


@dataclass
class OfflineRun:
    folder: Path
    name: str = ""
    group: str = ""
    job_type: str = ""
    project: str = ""
    sweep_id: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)  # of all records in the file
    exit_code: int | None = None  # None: the run was never finished

    def table(self, name: str) -> list[list[Any]]:
        """Return the rows of a table, from its file."""
        path = self.folder / "files" / self.summary[f"{name}/path"]
        return json.loads(path.read_text())["data"]


def read_runs(run_dir: Path, patience: float = 20.0) -> list[OfflineRun]:
    """Return what W&B wrote offline into a run folder, by name.

    Its service writes the end of a file a moment after the run has finished, in seconds of
    `patience` at most.
    """
    deadline = time.monotonic() + patience
    while True:
        runs = [_read_run(path) for path in run_dir.glob("wandb/offline-run-*/run-*.wandb")]
        if all(run.exit_code is not None for run in runs) or time.monotonic() > deadline:
            return sorted(runs, key=lambda run: run.name)
        time.sleep(0.02)


def _read_run(path: Path) -> OfflineRun:
    from wandb.proto.wandb_internal_pb2 import Record

    run, content = OfflineRun(path.parent), path.read_bytes()
    assert content.startswith(LEVELDB)
    *records, _ = leveldb_records(content)
    for record in map(Record.FromString, records):
        kind = record.WhichOneof("record_type")
        run.kinds.add(kind)
        if kind == "run":
            sent = record.run
            run.name, run.group, run.job_type = sent.display_name, sent.run_group, sent.job_type
            run.project, run.sweep_id, run.tags = sent.project, sent.sweep_id, list(sent.tags)
            run.config |= _values(sent.config.update)
        elif kind == "history":
            run.history.append(_values(record.history.item))
        elif kind == "summary":
            run.summary |= _values(record.summary.update)
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _values(items: Any) -> dict[str, Any]:
    return {each.key or "/".join(each.nested_key): json.loads(each.value_json) for each in items}


def leveldb_records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a LevelDB log whose blocks may cut them, then what is incomplete."""
    record, place = b"", HEADER  # W&B's own header
    while place + HEADER <= len(content):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        record += content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield record
            record = b""
    yield record
