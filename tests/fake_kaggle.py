"""A loopback stand-in for Kaggle: what the project's commands request, and nothing else."""

import json
import threading
from pathlib import Path
from typing import Any

from tests.loopback import JsonHandler, JsonServer

TOKEN = "the-good-token"
COMPETITION = "spot-the-lymphoma"
RULES = "You must accept this competition's rules before you'll be able to download files."


class _Handler(JsonHandler):
    server: "FakeKaggle"

    def do_GET(self) -> None:
        self.server.requests.append("download")
        self.send_response(200)
        self.send_header("Content-Type", "application/zip")
        self.send_header("Content-Length", str(len(self.server.archive)))
        self.end_headers()
        self.wfile.write(self.server.archive)

    def do_PUT(self) -> None:
        self.server.requests.append("upload")
        content = self.body()
        if self.server.refuse_uploads:
            self.answer({}, 500)
        else:
            self.server.uploads.append(content)
            self.answer({})

    def do_POST(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        self.server.requests.append(name)
        given = json.loads(self.body())
        if name == self.server.hang_on:
            threading.Event().wait()  # for ever, in a daemon thread
        elif name == "IntrospectToken":
            self.answer({"active": given["token"] == TOKEN, "username": "someone"})
        elif self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.answer({"code": 401, "message": "Unauthenticated"}, 401)
        elif given.get("competitionName") != COMPETITION:
            self.answer({"code": 404, "message": "Not found"}, 404)
        elif name == "StartSubmissionUpload":
            self.answer({"token": "blob", "createUrl": "http://localhost/upload/blob"})
        elif name == "CreateSubmission":
            self.server.submissions.append(given)
            self.server.scores.append(self.server.next_score)
            self.answer({"message": "Successfully submitted to Spot the Lymphoma", "ref": 1})
        elif name == "ListSubmissions":
            listed = [
                {"ref": n, "publicScore": score} for n, score in enumerate(self.server.scores)
            ]
            self.answer({"submissions": listed[::-1]})
        elif name == "DownloadDataFiles" and not self.server.rules_accepted:
            self.answer({"code": 403, "message": RULES}, 403)
        elif name == "DownloadDataFiles":
            self.send_response(302)
            self.send_header("Location", "http://localhost/blob/archive.zip")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.answer({"code": 501, "message": f"the stand-in has no {name}"}, 501)


class FakeKaggle(JsonServer):
    """Accepts TOKEN for COMPETITION.

    Reached as a proxy: the client requests http://localhost/..., whatever the port here.
    """

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.requests: list[str] = []  # the last part of each path
        self.uploads: list[bytes] = []
        self.submissions: list[dict[str, Any]] = []
        self.refuse_uploads = False
        self.scores: list[str] = ["0.9"]  # of all submissions, the oldest first
        self.next_score = "0.83"
        self.archive = b""  # of the competition's files
        self.rules_accepted = True
        self.hang_on: str | None = None  # the request that is never answered

    def environment(self, home: Path) -> dict[str, str]:
        """Return what leads the client here, and to `home` for its files."""
        return {
            "HOME": str(home),
            "KAGGLE_CONFIG_DIR": str(home / ".kaggle"),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            **dict.fromkeys(("http_proxy", "HTTP_PROXY"), self.url),
            **dict.fromkeys(("no_proxy", "NO_PROXY"), ""),
        }
