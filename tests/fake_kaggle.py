"""A loopback stand-in for Kaggle: what `kaggle competitions submit` requests, and nothing else."""

import json
import threading
from pathlib import Path
from typing import Any

from tests.loopback import JsonHandler, JsonServer

TOKEN = "the-good-token"
COMPETITION = "spot-the-lymphoma"


class _Handler(JsonHandler):
    server: "FakeKaggle"

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
            self.answer({"message": "Successfully submitted to Spot the Lymphoma", "ref": 1})
        else:
            self.answer({"code": 501, "message": f"the stand-in has no {name}"}, 501)


class FakeKaggle(JsonServer):
    """Accepts TOKEN for submissions to COMPETITION.

    Reached as a proxy: the client requests http://localhost/..., whatever the port here.
    """

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.requests: list[str] = []  # the last part of each path
        self.uploads: list[bytes] = []
        self.submissions: list[dict[str, Any]] = []
        self.refuse_uploads = False
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
