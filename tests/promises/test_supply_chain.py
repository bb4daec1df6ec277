"""Supply chain: known holes are looked for"""

import json
import re
import subprocess
import sys
import threading
import tomllib
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from importlib.util import find_spec

import pytest
from packaging.requirements import Requirement

from tests.promises.journey import ROOT

AUDIT = str(ROOT / ".ci" / "audit_deps.py")
needs_pip_audit = pytest.mark.skipif(find_spec("pip_audit") is None, reason="needs pip-audit")


class Advisories(BaseHTTPRequestHandler):
    """A stand-in for OSV that knows a hole in every pillow below 99."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]
        hole = {
            "id": "TEST-1",
            "modified": "2020-01-01T00:00:00Z",
            "affected": [{
                "package": {"name": "pillow", "ecosystem": "PyPI"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}],
            }],
        }  # fmt: skip
        body = json.dumps({"vulns": [hole]} if asked["name"] == "pillow" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


@contextmanager
def advisories():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Advisories)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def audit(*words, python=(sys.executable,)):
    done = subprocess.run([*python, AUDIT, *words], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout.splitlines(), done.stderr


@needs_pip_audit
def test_a_vulnerable_package_is_told_and_fails():
    with advisories() as url:
        code, said, errors = audit("--vulnerability-service", "osv", "--osv-url", url)
    assert (code, errors) == (1, "")
    (line,) = said
    assert re.fullmatch(r"vulnerable: pillow [\d.]+: TEST-1, mended in 99", line)


@needs_pip_audit
def test_packages_without_a_known_hole_pass(tmp_path):
    lock = tmp_path / "lock.txt"
    lock.write_text(f"jinja2==3.1.6 --hash=sha256:{'0' * 64}\n")
    with advisories() as url:
        code, said, _ = audit("-r", str(lock), "--vulnerability-service", "osv", "--osv-url", url)
    assert (code, said) == (0, ["1 packages of requirements.lock: no known vulnerability"])


@needs_pip_audit
def test_an_index_that_cannot_be_reached_is_told_in_a_line():
    code, said, errors = audit(
        "--vulnerability-service", "osv", "--osv-url", "http://127.0.0.1:1/v1/query"
    )
    assert (code, errors) == (3, "")
    (line,) = said
    assert line.startswith("dependencies were not checked: no index of advisories answers")


@pytest.mark.promise(
    "`make audit-deps` where pip-audit is not installed",
    "one line that nothing was checked, and a code of its own: no silence that looks like a pass",
)
def test_an_audit_that_cannot_look_does_not_pass():
    code, said, errors = audit(python=(sys.executable, "-E", "-S"))  # without installed packages
    assert (code, errors) == (3, "")
    assert said == ["dependencies were not checked: pip-audit is not installed; make setup "
                    "installs it"]  # fmt: skip


def floors():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    words = [*project["dependencies"], *(word for group in extras.values() for word in group)]
    return [Requirement(word) for word in words]


@pytest.mark.promise(
    "requirements.lock, and every direct dependency",
    "pinned by hash, above a floor in pyproject.toml, and installed so",
)
def test_every_dependency_is_pinned_by_hash_above_its_floor(record_property):
    lock = (ROOT / "requirements.lock").read_text()
    pins = dict(re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==([\w.+]+)", lock, re.MULTILINE))
    pinned = re.split(r"\n(?=[\w.-]+(?:\[[\w,]+\])?==)", lock)
    assert all("--hash=sha256:" in each for each in pinned)
    assert "://" not in lock
    for each in floors():
        if each.name == "pip-audit" and each.name not in pins:
            continue  # until the lock is made again
        assert each.specifier.contains(pins[each.name.lower()]), each
        assert each.specifier.contains(version(each.name)), each
    record_property("tried", len(pins))
