"""The repository: dependencies, calls that run what they read, and this table"""

import ast
import json
import re
import tomllib
from importlib.metadata import version
from importlib.util import find_spec

import pytest
from packaging.requirements import Requirement

from tests.loopback import JsonHandler, JsonServer
from tests.promises.jobs import ROOT, python
from tests.promises.table import PAGE, page

RANGES = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}]
PILLOW = {"package": {"name": "pillow", "ecosystem": "PyPI"}, "ranges": RANGES}
ADVISORY = {"id": "TEST-1", "modified": "2020-01-01T00:00:00Z", "affected": [PILLOW]}


class _Handler(JsonHandler):
    def do_POST(self):
        vulnerable = json.loads(self.body())["package"]["name"] == "pillow"
        self.answer({"vulns": [ADVISORY]} if vulnerable else {})


def audit(*words, options=()):
    """Return the exit code and the line of `make audit-deps`."""
    done = python(*options, ROOT / ".ci" / "audit_deps.py", *words, cwd=ROOT)
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    return done.returncode, line


@pytest.mark.slow
@pytest.mark.skipif(find_spec("pip_audit") is None, reason="needs pip-audit")
def test_vulnerable_packages_fail_and_others_pass(tmp_path):
    (tmp_path / "lock.txt").write_text(f"jinja2==3.1.6 --hash=sha256:{'0' * 64}\n")
    server = JsonServer(_Handler)  # a stand-in for OSV
    with server.serving():
        osv = ("--vulnerability-service", "osv", "--osv-url", f"{server.url}/v1/query")
        code, line = audit(*osv)
        assert code == 1
        assert re.fullmatch(r"vulnerable: pillow [\d.]+: TEST-1, fixed in 99", line)
        passed = audit("-r", str(tmp_path / "lock.txt"), *osv)
    assert passed == (0, "1 packages of requirements.lock: no known vulnerability")
    code, line = audit(*osv[:-1], "http://127.0.0.1:1/v1/query")
    assert code == 3
    assert line.startswith("dependencies were not checked: no index of advisories answers")


def test_an_audit_without_pip_audit_does_not_pass():
    """`make audit-deps` where pip-audit is not installed → one line that nothing was checked, and
    exit code 3, which is not a pass"""
    code, line = audit(options=("-E", "-S"))  # without installed packages
    assert code == 3
    assert line.startswith("dependencies were not checked: pip-audit is not installed")


def test_every_dependency_is_pinned_by_hash():
    """requirements.lock, and every direct dependency → pinned by hash, above the minimum in
    pyproject.toml, and installed so"""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    lock = (ROOT / "requirements.lock").read_text()
    pins = dict(re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==([\w.+]+)", lock, re.MULTILINE))
    pinned = re.split(r"\n(?=[\w.-]+(?:\[[\w,]+\])?==)", lock)
    assert all("--hash=sha256:" in each for each in pinned)
    assert "://" not in lock
    for each in map(Requirement, (word for group in groups for word in group)):
        assert each.specifier.contains(pins[each.name.lower()]), each
        assert each.specifier.contains(version(each.name)), each


BANNED = {"pickle", "dill", "shelve", "joblib", "marshal", "cloudpickle", "jsonpickle"}
CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load",
         "yaml.full_load", "pd.read_pickle", "pd.read_hdf", "np.fromfile", "torch.jit.load",
         "torch.hub.load", "__import__"}  # fmt: skip
FLAGS = {"allow_pickle": False, "shell": False, "weights_only": True}


def complaints(source: str) -> list[str]:
    """Return what in a program's text could run what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            if names == ["cpu_count", "joblib"]:
                continue
            found += [name for name in names if name.split(".")[0] in BANNED]
        if isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
            plain = ast.unparse(node) == "yaml.load(text, _PlainLoader)"  # a SafeLoader
            found += [] if plain else [ast.unparse(node.func)]
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            given = {each.arg for each in node.keywords}
            found += [] if "weights_only" in given else ["torch.load"]
        if isinstance(node, ast.keyword) and node.arg in FLAGS:
            safe = isinstance(node.value, ast.Constant) and node.value.value is FLAGS[node.arg]
            found += [] if safe else [node.arg]
    return found


def test_the_package_runs_nothing_that_it_reads():
    """`weights_only=False`, pickle, eval or a shell in the package → a test fails; there is none"""
    files = [*(ROOT / "lymphoml").rglob("*.py"), ROOT / "train.py", ROOT / "predict.py"]
    assert {str(path): found for path in files if (found := complaints(path.read_text()))} == {}
    for source in ("torch.load(x)", "torch.load(x, weights_only=safe)", "import pickle",
                   "np.load(x, allow_pickle=True)", "from joblib import load", "eval('1')",
                   "yaml.load(x, L)"):  # fmt: skip
        assert complaints(source)  # the search finds it


def test_the_page_has_a_row_for_every_promise():
    """a promise without a test, or a test without a row here → a test fails

    After a change: `python -m tests.promises.table`, which writes docs/reliability.md.
    """
    assert PAGE.read_text() == page()
