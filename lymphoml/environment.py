"""What it takes to make a run again, and nothing that tells of the machine or its user."""

import hashlib
import importlib.metadata
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from lymphoml.files import sha256
from lymphoml.privacy import leaves_project

PACKAGES = ("lymphoml", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "timm",
            "numpy", "pandas", "scikit-learn", "scikit-image", "scipy", "pillow",
            "hydra-core")  # fmt: skip
PACKAGE = Path(__file__).parent
# They look at runs and cohorts; nothing of them reaches a training.
LOOKING_ON = {"assumptions", "audit", "benchmark", "commands", "report"}


def describe(
    data_fingerprint: str,
    words: Sequence[str],
    hardware: str,
    settings: str,
    threads: int,
    weights: Path | None = None,
) -> dict[str, Any]:
    """The content of `environment.json`; `words` are the job's, after `python train.py`.

    `weights` is the file that the encoder begins with, where it does with one.
    """
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "versions": {name: version for name, version in versions.items() if version},
        "git_commit": _git_commit(),
        "data_fingerprint": data_fingerprint,
        "command": " ".join(["python train.py", *map(_without_folders, words)]),
        "hardware": hardware,
        "settings": settings,
        "threads": threads,
        "code": code(PACKAGE),
        **({} if weights is None else {"weights": sha256(weights)[:16]}),
    }


def code(package: Path) -> dict[str, str]:
    """A digest of each file that trains: a commit would not tell of a change not committed."""
    files = [
        path
        for path in sorted(package.rglob("*.py"))
        if path.relative_to(package).parts[0] not in LOOKING_ON
    ]
    if (script := package.parent / "train.py").exists():
        files.append(script)
    return {
        path.relative_to(package.parent).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[
            :16
        ]
        for path in files
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _without_folders(word: str) -> str:
    """Of a path that leaves the project only the last part, of a list that holds one nothing."""
    key, equals, value = word.partition("=") if "=" in word else ("", "", word)
    bare = value.replace("\\", "").strip("'\"")  # as Hydra reads it
    if leaves_project(bare):
        return f"{key}{equals}{PurePath(bare).name}"
    if any(map(leaves_project, re.split(r"[\[\]{}()'\":=,\s\\]+", value))):
        return f"{key}{equals}..."
    return word
