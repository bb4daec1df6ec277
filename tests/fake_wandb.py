"""A loopback stand-in for W&B: what runs, a sweep and its agent request, and nothing else.

`read_runs` reads what an offline run leaves on disk.
"""

import gzip
import itertools
import json
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from lymphoml.core import wandb_client
from tests.loopback import JsonHandler, JsonServer

KEY = "0123456789abcdef0123456789abcdef01234567"
ENTITY, PROJECT, SWEEP = "team", "lymphoml", "sweep1"
LEVELDB, BLOCK, HEADER = b":W&B", 32768, 7  # how a record file starts; sizes of its log


class _Handler(JsonHandler):
    server: "FakeWandb"

    def do_POST(self) -> None:
        body = self.body()
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        self.server.received.append(f"{self.path} {self.headers}".encode() + body)
        answer: dict[str, Any] = {}
        if self.path == "/graphql":
            query = json.loads(body)
            operation = query["query"].split("(")[0].split("{")[0].split()[-1]
            if operation in self.server.refused:
                answer = {"data": None, "errors": [{"message": "not today"}]}
            else:
                answer = {"data": self.server.data(operation, query.get("variables") or {})}
        elif self.path.endswith("/file_stream"):
            self.server.stream(self.path.split("/")[-2], json.loads(body))
        self.answer(answer)

    do_GET = do_PUT = do_POST


class FakeWandb(JsonServer):
    """Stores what runs send; gives an agent its sweep's grid, a run at a time."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.received: list[bytes] = []  # every path, header and body
        self.refused: set[str] = set()  # GraphQL operations that get an error
        self.unknown: set[str] = set()  # GraphQL operations that got an empty answer
        self.sweep: dict[str, Any] = {}
        self.runs: dict[str, dict[str, Any]] = {}  # by run id
        self.summaries: dict[str, dict[str, Any]] = {}
        self.exit_codes: dict[str, int] = {}
        self.views: dict[str, dict[str, Any]] = {}  # by id
        self._jobs: Iterator[dict[str, Any]] = iter(())

    def environment(self, home: Path) -> dict[str, str]:
        """Return what leads the client here, and to `home` for its files."""
        return {"HOME": str(home), "WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}

    def data(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """Return the `data` of a GraphQL answer."""
        project = {"id": "p", "name": PROJECT, "entity": {"id": "e", "name": ENTITY}}
        sweep = {"id": "s", "name": SWEEP, "method": "grid", "state": "RUNNING"}
        match operation:
            case "Viewer":
                someone = {"username": "someone", "email": "", "flags": "{}"}
                return {"viewer": {"id": "v", "entity": ENTITY, "teams": {"edges": []}, **someone}}
            case "GetDefaultEntity":
                return {"viewer": {"id": "v", "entity": ENTITY}}
            case "Dashboard":
                return {"project": self._dashboard(given)}
            case "UpsertView2":
                key = given.get("id") or f"view{len(self.views)}"
                self.views[key] = given
                return {"upsertView": {"view": {"id": key, "name": given["name"]}}}
            case "UpsertBucket":
                known = {key: value for key, value in given.items() if value is not None}
                self.runs.setdefault(given["name"], {}).update(known)
                bucket = {"id": "b", "name": given["name"], "config": "{}", "project": project}
                return {"upsertBucket": {"bucket": bucket, "inserted": True}}
            case "CreateRunFiles":
                links = [{"name": n, "uploadUrl": f"{self.url}/upload"} for n in given["files"]]
                return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": links}}
            case "UpsertSweep":
                self.sweep = yaml.safe_load(given["config"])
                self._jobs = self._grid()
                answer = {"sweep": {**sweep, "project": project}, "configValidationWarnings": []}
                return {"upsertSweep": answer}
            case "SweepWithRuns":
                sweep |= {"config": yaml.safe_dump(self.sweep), "runs": {"edges": []}}
                return {"project": {"sweep": sweep}}
            case "CreateAgent":
                return {"createAgent": {"agent": {"id": "a"}}}
            case "Heartbeat":
                busy = json.loads(given["runState"])
                commands = [] if busy else [next(self._jobs, {"type": "exit"})]
                return {"agentHeartbeat": {"commands": json.dumps(commands)}}
        self.unknown.add(operation)
        return {}

    def stream(self, run: str, content: dict[str, Any]) -> None:
        """Store a run's summary and end, as they come."""
        for line in content.get("files", {}).get("wandb-summary.json", {}).get("content", []):
            self.summaries[run] = json.loads(line)
        if content.get("complete"):
            self.exit_codes[run] = content["exitcode"]

    def _dashboard(self, given: dict[str, Any]) -> dict[str, Any] | None:
        if (given["entity"], given["project"]) != (ENTITY, PROJECT):
            return None
        filters, runs = json.loads(given["filters"]), self.runs.values()
        views = [key for key, view in self.views.items() if view["name"] == given["view"]]
        configs = [run["config"] for run in runs if run["jobType"] == filters["jobType"]
                   and filters.get("tags") in (None, *run["tags"])]  # fmt: skip
        nodes = {
            "allViews": [{"id": key} for key in views],
            "runs": [{"config": c} for c in configs],
        }
        return {key: {"edges": [{"node": node} for node in each]} for key, each in nodes.items()}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client drops connections as it ends."""

    def _grid(self) -> Iterator[dict[str, Any]]:
        choices = {key: each["values"] for key, each in self.sweep["parameters"].items()}
        for number, values in enumerate(itertools.product(*choices.values())):
            args = {key: {"value": value} for key, value in zip(choices, values, strict=True)}
            program = self.sweep["program"]
            yield {"type": "run", "run_id": f"job{number}", "program": program, "args": args}


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

    @property
    def summary_keys(self) -> list[str]:
        """Those of the summary, W&B's own among them; a table is one."""
        tables = [key.removesuffix("/_type") for key in self.summary if key.endswith("/_type")]
        within = tuple(f"{table}/" for table in tables)
        return tables + [key for key in self.summary if not key.startswith(within)]

    def table(self, name: str) -> list[list[Any]]:
        """Return the rows of a table, from its file."""
        path = self.folder / "files" / self.summary[f"{name}/path"]
        return json.loads(path.read_text())["data"]


@contextmanager
def connected(server: FakeWandb, home: Path) -> Iterator[None]:
    """Lead this process's client to the server, with a key."""

    def forget() -> None:
        wandb_client.client.cache_clear()
        wandb_client.print_once.cache_clear()

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_MODE", raising=False)
        for name, value in server.environment(home).items():
            patch.setenv(name, value)
        wandb = wandb_client.client()
        wandb.teardown()  # what it read of the environment before
        forget()
        yield
        wandb.teardown()
        forget()


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
