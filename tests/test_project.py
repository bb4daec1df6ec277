"""What the files around the package say agrees, and what may not be committed is refused."""

import importlib.util
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import lymphoml

ROOT = Path(__file__).parents[1]


def test_one_version():
    found = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert lymphoml.__version__ == found[1] == citation["version"]


def test_ci_runs_every_python_that_is_promised():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = [found[1] for each in project["classifiers"]
                if (found := re.search(r"Python :: (3\.\d+)$", each))]  # fmt: skip
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == promised
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert project["requires-python"] == f">={promised[0]}"


def test_every_hook_is_of_this_repository():
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [each["repo"] for each in repos] == ["local"]


@pytest.mark.parametrize(("name", "content", "problem"), [
    ("data/P1/000000.jpg", "", "holds data of patients"),
    ("runs/cv/default/config.yaml", "", "holds data of patients"),
    ("folds.csv", "", "holds data of patients"),
    ("big.png", "x" * 500_001, "is larger"),
    ("a.ipynb", json.dumps({"cells": [{"outputs": [1]}]}), "has output"),
    ("b.ipynb", json.dumps({"cells": [{"outputs": [], "execution_count": None}]}), None),
    ("lymphoml/data/bags.py", "", None),
])  # fmt: skip
def test_what_may_be_committed(tmp_path, monkeypatch, name, content, problem):
    spec = importlib.util.spec_from_file_location("check_files", ROOT / ".ci/check_files.py")
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(content)
    found = module.problem(Path(name))
    assert found is None if problem is None else problem in found


def test_a_set_up_without_cuda_has_all_but_torch_of_the_lock(tmp_path):
    make = ["make", "-n", "-B", "TORCH=cpu", "setup"]
    lines = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (awk,) = [line for line in lines.splitlines() if line.startswith("awk")]
    subprocess.run(awk.replace(".venv/", f"{tmp_path}/"), cwd=ROOT, shell=True, check=True)
    package = re.compile(r"^([a-z0-9-]+)(?:\[.*?\])?==", re.MULTILINE)
    locked = set(package.findall((ROOT / "requirements.lock").read_text()))
    left_out = locked - set(package.findall((tmp_path / "no-cuda.lock").read_text()))
    assert {"torch", "torchvision", "triton"} <= left_out
    assert all(re.match(r"torch(vision)?$|triton$|nvidia-|cuda-", each) for each in left_out)
