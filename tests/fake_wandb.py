"""A loopback stand-in for W&B: what runs, a sweep and its agent ask for, and nothing else.

And `read_runs`, for what an offline run leaves on disk.
"""

import gzip
import itertools
import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

KEY = "0123456789abcdef0123456789abcdef01234567"
ENTITY, PROJECT, SWEEP = "team", "lymphoml", "sweep1"


class FakeWandb(ThreadingHTTPServer):
    """Remembers what runs say of themselves; hands an agent its sweep's grid, a run at a time."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.received: list[bytes] = []  # every path, header and body
        self.unknown: set[str] = set()  # GraphQL operations that got an empty answer
        self.sweep: dict[str, Any] = {}
        self.runs: dict[str, dict[str, Any]] = {}  # by run id
        self.summaries: dict[str, dict[str, Any]] = {}
        self.exit_codes: dict[str, int] = {}
        self._jobs: Iterator[dict[str, Any]] = iter(())

    def environment(self, home: Path) -> dict[str, str]:
        """What leads the client here, and to `home` for its files."""
        return {"HOME": str(home), "WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """The `data` of a GraphQL answer."""
        project = {"id": "p", "name": PROJECT, "entity": {"id": "e", "name": ENTITY}}
        sweep = {"id": "s", "name": SWEEP, "method": "grid", "state": "RUNNING"}
        match operation:
            case "Viewer":
                someone = {"username": "someone", "email": "", "flags": "{}"}
                return {"viewer": {"id": "v", "entity": ENTITY, "teams": {"edges": []}, **someone}}
            case "UpsertBucket":
                told = {key: value for key, value in given.items() if value is not None}
                self.runs.setdefault(given["name"], {}).update(told)
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
        """A run's history, summary and end, as they come."""
        for line in content.get("files", {}).get("wandb-summary.json", {}).get("content", []):
            self.summaries[run] = json.loads(line)
        if content.get("complete"):
            self.exit_codes[run] = content["exitcode"]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client drops connections as it ends."""

    def _grid(self) -> Iterator[dict[str, Any]]:
        choices = {key: each["values"] for key, each in self.sweep["parameters"].items()}
        for number, values in enumerate(itertools.product(*choices.values())):
            args = {key: {"value": value} for key, value in zip(choices, values, strict=True)}
            program = self.sweep["program"]
            yield {"type": "run", "run_id": f"job{number}", "program": program, "args": args}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeWandb

    def do_POST(self) -> None:
        body = self._body()
        self.server.received.append(f"{self.path} {self.headers}".encode() + body)
        answer: dict[str, Any] = {}
        if self.path == "/graphql":
            question = json.loads(body)
            operation = question["query"].split("(")[0].split("{")[0].split()[-1]
            answer = {"data": self.server.answer(operation, question.get("variables") or {})}
        elif self.path.endswith("/file_stream"):
            self.server.stream(self.path.split("/")[-2], json.loads(body))
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _body(self) -> bytes:
        body = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body


@contextmanager
def fake_wandb() -> Iterator[FakeWandb]:
    server = FakeWandb()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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
        """The rows of a table, from its file."""
        path = self.folder / "files" / self.summary[f"{name}/path"]
        return json.loads(path.read_text())["data"]


def read_runs(run_dir: Path, patience: float = 20.0) -> list[OfflineRun]:
    """What W&B wrote offline into a run folder, by name.

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
    run = OfflineRun(path.parent)
    for record in _records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        run.kinds.add(kind)
        if kind == "run":
            told = record.run
            run.name, run.group, run.job_type = told.display_name, told.run_group, told.job_type
            run.project, run.sweep_id, run.tags = told.project, told.sweep_id, list(told.tags)
            run.config |= _values(told.config.update)
        elif kind == "history":
            run.history.append(_values(record.history.item))
        elif kind == "summary":
            run.summary |= _values(record.summary.update)
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _values(items: Any) -> dict[str, Any]:
    return {each.key or "/".join(each.nested_key): json.loads(each.value_json) for each in items}


def _records(content: bytes) -> Iterator[Any]:
    """The records of a W&B file: a LevelDB log, whose blocks of 32 KiB may cut a record."""
    from wandb.proto.wandb_internal_pb2 import Record

    assert content.startswith(b":W&B")
    position, block, header, parts = 7, 32768, struct.Struct("<IHB"), b""
    while position + header.size <= len(content):
        if block - position % block < header.size:
            position += block - position % block
            continue
        _, length, place = header.unpack_from(content, position)
        parts += content[position + header.size : position + header.size + length]
        position += header.size + length
        if place in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(parts)
            parts = b""
