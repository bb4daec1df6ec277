"""Which package may import which, read off the syntax trees: docs/design.md has the reasons."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [*(ROOT / "lymphoml").rglob("*.py"), ROOT / "train.py", ROOT / "predict.py"]
# Each package may import those before it, but models and data not each other.
ORDER = ["core", "evaluation", "data", "models", "training", "features", "runs", "audit",
         "explain", "deploy", "reports", "cli"]  # fmt: skip
LIBRARIES = {  # where a library may be imported
    "hydra": {"cli", "train.py"},
    "omegaconf": {"cli", "train.py"},
    "wandb": {"core/wandb_client.py"},
}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix().removeprefix("lymphoml/")


@pytest.mark.parametrize("package", ORDER)
def test_a_package_imports_only_packages_below_it(package):
    below = {*ORDER[: ORDER.index(package) + 1]} - ({"data"} if package == "models" else set())
    wrong = [
        f"{place(path)} imports {name}"
        for path in (ROOT / "lymphoml" / package).rglob("*.py")
        for name in imports(path)
        if name.startswith("lymphoml.") and name.split(".")[1] not in below
    ]
    assert wrong == []


def test_every_package_has_its_place():
    assert {path.parent.name for path in (ROOT / "lymphoml").glob("*/__init__.py")} <= {*ORDER}
    files = {path.name for path in (ROOT / "lymphoml").glob("*.py")}
    assert files == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_imported_in_one_place(library):
    users = {place(path) for path in FILES if library in {n.split(".")[0] for n in imports(path)}}
    assert users
    assert [each for each in users if not each.startswith(tuple(LIBRARIES[library]))] == []


def test_hydras_internals_are_not_imported():
    assert [path for path in FILES if "hydra._internal" in path.read_text()] == []


@pytest.mark.parametrize("code", [
    pytest.param("import lymphoml.reports.page.page", id="a report", marks=pytest.mark.slow),
    pytest.param("import lymphoml.cli.main", id="a command's help"),
    pytest.param("import lymphoml.deploy.predict", id="an exported model"),
    pytest.param("import lymphoml.cli.train, lymphoml.runs.settings", id="a job's configuration"),
    pytest.param("import lymphoml.runs.run_folder", id="the check of an existing run"),
])  # fmt: skip
def test_no_torch_is_needed_for(code):
    program = f"import sys\n{code}\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
