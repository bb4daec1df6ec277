"""Drift: what decides on a run's bits and is no longer what it was when the run was begun.

A run is told by its facts: one flat mapping of configuration, data, weights to begin with, code,
library versions and the machine's arithmetic. `environment.json` records every change of them that
somebody allowed.
"""

import hashlib
import importlib.metadata
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from lymphoml.core.files import sha256
from lymphoml.core.privacy import leaves_project
from lymphoml.runs.naming import leaves

# What it takes to make a run again, and nothing that tells of the machine or its user.

PACKAGES = ("lymphoml", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "timm",
            "numpy", "pandas", "scikit-learn", "scikit-image", "scipy", "pillow",
            "hydra-core")  # fmt: skip
PACKAGE = Path(__file__).parents[1]
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


Facts = dict[str, Any]
KEY = "drift"  # of environment.json and metrics.json: [{"when", "changes": [{what, before, now}]}]
# Of the packages that environment.json lists, those whose arithmetic or decoding the bits rest on.
DECIDING = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "timm", "numpy", "pandas",
            "scikit-learn", "scikit-image", "scipy", "pillow")  # fmt: skip
DATA = "data fingerprint"


def checked(environment: dict[str, Any]) -> dict[str, Any]:
    """What a run's environment.json holds; ValueError where what this file reads is odd."""
    if not isinstance(environment.get("data_fingerprint", ""), str):
        raise ValueError("data_fingerprint is no text")
    sessions = environment.get(KEY, [])
    if not isinstance(sessions, list) or not all(map(_is_session, sessions)):
        raise ValueError(f"{KEY} is no list of what changed and when")
    return environment


def facts(config: dict[str, Any], environment: dict[str, Any]) -> Facts:
    """All that decides on bits, by name; an environment of before tells no code and no threads."""
    found: Facts = dict(leaves(config))
    found[DATA] = environment["data_fingerprint"]
    versions = environment.get("versions", {})
    found |= {f"version of {name}": versions.get(name) for name in DECIDING}
    found |= {f"code of {file}": digest for file, digest in environment.get("code", {}).items()}
    if "weights" in environment:
        found["content of model.encoder.weights"] = environment["weights"]
    if "threads" in environment:
        found |= {name: environment[name] for name in ("hardware", "threads")}
    return found


def current(config: dict[str, Any], environment: dict[str, Any]) -> Facts:
    """The facts of a stored run after all that drifted in it."""
    found = facts(config, environment)
    for session in environment.get(KEY, []):
        found |= {change["what"]: change["now"] for change in session["changes"]}
    return found


def changes(before: Facts, now: Facts) -> list[dict[str, Any]]:
    """`what`, `before` and `now` of each fact that differs, configuration first.

    What one of the two does not tell at all (code, threads) is not held against the other.
    """
    kinds = {_kind(name) for name in before} & {_kind(name) for name in now}
    return [
        {"what": name, "before": before.get(name), "now": now.get(name)}
        for name in {**before, **now}
        if _kind(name) in kinds and before.get(name) != now.get(name)
    ]


def is_arithmetic(change: dict[str, Any]) -> bool:
    """Of code, libraries or machine, which a run that is only read does not need any more."""
    return _kind(change["what"]) in ("code", "version", "hardware", "threads")


def described(change: dict[str, Any]) -> str:
    """In a line."""
    what, before, now = change["what"], change["before"], change["now"]
    if what == DATA:
        return "the cohort's table or images have changed since it was begun"
    if what.startswith("code of "):
        state = "is new" if before is None else "is gone" if now is None else "has changed"
        return f"{what.removeprefix('code of ')} {state} since it was begun"
    return f"{what} is {before!r} there and {now!r} now"


def recorded(environment: dict[str, Any], found: list[dict[str, Any]]) -> dict[str, Any]:
    """The environment with these changes as its latest drift."""
    session = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "changes": found}
    return environment | {KEY: [*environment.get(KEY, []), session]}


def fingerprints(environment: dict[str, Any]) -> list[str]:
    """Of every state of the data that the run learned from."""
    told = [
        change for session in environment.get(KEY, []) for change in session["changes"]
        if change["what"] == DATA
    ]  # fmt: skip
    return [environment.get("data_fingerprint", ""), *(str(change["now"]) for change in told)]


def summary(sessions: list[dict[str, Any]]) -> list[str]:
    """A line a change, of a run's `drift`; the same day's same change once."""
    lines = (
        f"{session['when'][:10]}: {described(change)}"
        for session in sessions
        for change in session["changes"]
    )
    return list(dict.fromkeys(lines))


def _is_session(session: object) -> bool:
    if not isinstance(session, dict) or not isinstance(session.get("when"), str):
        return False
    changes = session.get("changes")
    return isinstance(changes, list) and all(
        isinstance(change, dict)
        and isinstance(change.get("what"), str)
        and {"before", "now"} <= change.keys()
        for change in changes
    )


def _kind(name: str) -> str:
    first, of, _ = name.partition(" of ")
    return first if of or name in ("hardware", "threads") else "configuration"
