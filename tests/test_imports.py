"""The import rules of docs/design.md, read off the syntax trees."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lymphoml"
LEAVES = {
    "types",
    "errors",
    "files",
    "seeding",
    "identity",
    "machine",
    "failures",
    "drift",
    "privacy",
    "foreign",
    "archive",
    "containment",
}  # anybody may import these

# Which parts of lymphoml a part may import, beside the leaves.
ALLOWED = {
    # Whose workers end with their parent; rows from a file tell what their encoder saw.
    "data": {"data", "seen", "stopping"},
    # Rows of numbers for images: measured of the pixels, or made by a network that nobody trains.
    "features": {"features", "data", "build", "nn", "stopping"},
    # Which images were seen: words alone, wherever a number stands.
    "seen": set(),
    # Trains an encoder on images; it is given no label, and knows no model of bags.
    "pretraining": {"pretraining", "build", "checkpoint", "checkpoint_content", "data",
                    "divergence", "features", "fold_folder", "nn", "runs", "seen"},
    "instances": {"build", "data", "features"},
    "nn": {"nn"},
    "evaluation": {"evaluation"},
    # data for pictures of cells, never torch
    "report": {"report", "evaluation", "runs", "triage", "data", "ledger", "members", "pseudonyms",
               "run_tables", "seen"},
    "submission": set(),
    "tracking": {"tracking", "evaluation"},
    "build": {"nn"},
    "config": {"schema"},
    "schema": set(),
    "entry": {"checks", "config", "fold_folder", "stopping"},
    "stopping": set(),
    "fold_folder": set(),
    "composition": {"config"},
    "checks": set(),
    "machine": {"machine", "nn"},  # of nn, what it takes an encoder to be tried in
    "checkpoint": {"checkpoint_content", "divergence"},
    "checkpoint_content": set(),
    "divergence": set(),
    "resumption": {"checkpoint"},
    "fold_errors": {"data", "divergence", "stopping"},
    "callbacks": set(),
    "progress": set(),
    "runs": {"fold_folder", "seen"},
    "baselines": {"baselines", "data", "evaluation", "features"},
    "audit": {"audit", "data", "evaluation"},
    "module": {"build", "checkpoint_content", "divergence", "nn"},  # of nn, what blends labels too
    "schedules": set(),
    "averaging": {"data", "module"},
    "trainer": {"checkpoint"},
    "environment": set(),
    "fold_probabilities": {"runs", "build", "checkpoint", "checkpoint_content", "checks", "data",
                           "features", "inference", "instances", "run_tables", "trainer",
                           "pretraining"},
    "members": {"run_tables", "runs"},
    "run_tables": {"data"},
    "prediction": {"runs", "data", "fold_probabilities", "ledger", "members", "run_tables",
                   "submission", "triage"},
    "triage": {"evaluation", "runs"},
    "ledger": set(),
    "pseudonyms": set(),
    "inference": {"checkpoint_content", "data", "module", "nn"},
    "preparation": {"build", "checks", "data", "features", "fold_folder", "instances", "module",
                    "pretraining", "seen", "trainer"},
    "completion": {"runs", "baselines", "data", "evaluation", "preparation", "seen", "tracking"},
    "training": {"averaging", "runs", "checkpoint", "data", "trainer", "inference", "preparation",
                 "callbacks", "completion", "fold_errors", "fold_folder", "resumption", "progress",
                 "environment", "evaluation", "tracking"},
    # Measures what a user runs; only `benchmarks/speed/inference.py` looks into lymphoml's parts.
    "benchmark": {"benchmark", "checkpoint", "config", "data", "environment", "inference",
                  "preparation", "report", "runs", "trainer"},
    # Trains poolings on bags whose truth it knows; it knows no cohort and no run.
    "assumptions": {"assumptions", "build", "evaluation"},
    "commands": {"commands", "assumptions", "audit", "benchmark", "config", "data",
                 "evaluation", "features", "pretraining", "prediction", "runs", "submission",
                 "report", "ledger", "members", "instances", "seen"},
    "cli": {"commands", "config", "entry"},
    "__main__": {"cli", "stopping"},
}  # fmt: skip
# Which parts may import a package.
ONLY_IN = {
    "hydra": {"config", "composition", "entry", "train"},
    "omegaconf": {"config", "schema", "composition", "entry", "commands", "cli", "train"},
    "wandb": {"tracking"},
    "lightning": set(),
    "lightly": {"pretraining"},
    "torch": {"types", "data", "features", "pretraining", "nn", "module", "trainer", "machine",
              "checkpoint", "checkpoint_content", "divergence", "callbacks", "inference",
              "tracking", "benchmark", "assumptions", "averaging", "schedules"},
    "pytorch_lightning": {"averaging", "data", "module", "trainer", "inference", "training",
                          "callbacks", "fold_errors", "progress", "checkpoint", "tracking",
                          "benchmark"},
}  # fmt: skip
FILES = [*PACKAGE.rglob("*.py"), ROOT / "train.py", ROOT / "predict.py"]


def part(path: Path) -> str:
    inside = PACKAGE in path.parents
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py") if inside else path.stem


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_import_rules(path):
    here = part(path)
    for name in imports(path):
        root, *rest = name.split(".")
        if root in ONLY_IN:
            assert here in ONLY_IN[root], f"{path} imports {root}"
        if root == "lymphoml" and PACKAGE in path.parents and here != "__init__":
            target = rest[0]
            assert target in LEAVES | ALLOWED.get(here, set()), f"{path} imports lymphoml.{target}"


def test_a_report_needs_no_torch():
    """It reads the cohort for pictures of cells, and `data` holds torch as well."""
    code = "import sys, lymphoml.reports.page.overview; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_nothing_unpickles():
    """`weights_only=False`, pickle and joblib.load run what they read."""
    for path in FILES:
        tree = ast.parse(path.read_text())
        assert not {"pickle", "joblib", "dill"} & {name.split(".")[0] for name in imports(path)}
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "weights_only":
                assert isinstance(node.value, ast.Constant), f"{path}:{node.value.lineno}"
                assert node.value.value is True, f"{path}:{node.value.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert "weights_only" in {keyword.arg for keyword in node.keywords}
