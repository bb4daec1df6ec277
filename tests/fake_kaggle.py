"""A loopback stand-in for Kaggle: what `kaggle competitions submit` asks for, and nothing else."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "the-good-token"
COMPETITION = "spot-the-lymphoma"


class FakeKaggle(ThreadingHTTPServer):
    """Accepts TOKEN for submissions to COMPETITION.

    Reached as a proxy: the client asks for http://localhost/..., whatever port this listens on.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []  # the last part of each path asked for
        self.uploads: list[bytes] = []
        self.submissions: list[dict[str, Any]] = []
        self.refuse_uploads = False
        self.hang_on: str | None = None  # the request that is never answered
        self.released = threading.Event()

    def environment(self, home: Path) -> dict[str, str]:
        """What leads the client here, and to `home` for its files."""
        proxy = f"http://127.0.0.1:{self.server_port}"
        return {
            "HOME": str(home),
            "KAGGLE_CONFIG_DIR": str(home / ".kaggle"),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            **dict.fromkeys(("http_proxy", "HTTP_PROXY"), proxy),
            **dict.fromkeys(("no_proxy", "NO_PROXY"), ""),
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeKaggle

    def do_PUT(self) -> None:
        self.server.requests.append("upload")
        content = self._content()
        if self.server.refuse_uploads:
            self._answer(500, {})
        else:
            self.server.uploads.append(content)
            self._answer(200, {})

    def do_POST(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        self.server.requests.append(name)
        question = json.loads(self._content())
        if name == self.server.hang_on:
            self.server.released.wait()
        elif name == "IntrospectToken":
            self._answer(200, {"active": question["token"] == TOKEN, "username": "someone"})
        elif self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {"code": 401, "message": "Unauthenticated"})
        elif question.get("competitionName") != COMPETITION:
            self._answer(404, {"code": 404, "message": "Not found"})
        elif name == "StartSubmissionUpload":
            self._answer(200, {"token": "blob", "createUrl": "http://localhost/upload/blob"})
        elif name == "CreateSubmission":
            self.server.submissions.append(question)
            self._answer(200, {"message": "Successfully submitted to Spot the Lymphoma", "ref": 1})
        else:
            self._answer(501, {"code": 501, "message": f"the stand-in knows no {name}"})

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _content(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def fake_kaggle() -> Iterator[FakeKaggle]:
    server = FakeKaggle()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
