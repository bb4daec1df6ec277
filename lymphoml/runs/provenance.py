"""What decides on a run's bits: recorded in `environment.json`, compared before a resume.

No torch: another configuration is refused before it is imported.
"""

import hashlib
import importlib.metadata
import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from lymphoml.core.errors import InputError
from lymphoml.core.files import sha256
from lymphoml.core.privacy import leaves_project, portable
from lymphoml.runs.naming import leaves

if TYPE_CHECKING:  # a command that reads runs needs no schema
    from lymphoml.data.cohort import Cohort
    from lymphoml.runs.settings import TrainConfig

PACKAGE = Path(__file__).parents[1]
# The code that decides on bits; conf/ does by its values, which are compared one by one.
CODE = ("models", "data", "training", "features", "core/seeding.py", "runs/cross_validation.py",
        "runs/prepare.py")  # fmt: skip
EXCLUDED_CODE = ("training/loggers", "data/synthetic")
VERSIONS = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "timm", "numpy", "pandas",
            "scikit-learn", "scikit-image", "scipy", "pillow")  # fmt: skip
OTHER_VERSIONS = ("lymphoml", "hydra-core")  # recorded, not compared
CHANGES = "changes"  # key of environment.json and metrics.json: [{"when", "changes": [{...}]}]
DATA, WEIGHTS = "data fingerprint", "content of model.encoder.weights"
RESOLVED = ("trainer.precision", "trainer.encoder_chunk_size")  # `auto` until torch is imported
UNKNOWN: Any = object()  # a value that is not known yet differs from nothing


@dataclass(frozen=True)
class Change:
    """A value that decides on bits, before and now; None where there is none."""

    what: str
    before: Any
    now: Any

    @property
    def is_arithmetic(self) -> bool:
        """Whether it is of code, libraries or machine, which a finished run needs no more."""
        return self.what.startswith(("code ", "version ")) or self.what in ("hardware", "threads")

    def __str__(self) -> str:
        if self.what == DATA:
            return "the cohort's table or images have changed since the run was started"
        if self.what.startswith("code of "):
            state = "new" if self.before is None else "gone" if self.now is None else "changed"
            return f"{self.what.removeprefix('code of ')} is {state} since the run was started"
        return f"{self.what} was {self.before!r} and is {self.now!r}"


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Return what differs, configuration first; an UNKNOWN value does not."""
    changes = (Change(name, before.get(name), now.get(name)) for name in {**before, **now})
    known = (each for each in changes if UNKNOWN not in (each.before, each.now))
    return [each for each in known if each.before != each.now]


def provenance(config: Mapping[str, Any], environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that decides on a run's bits, of its configuration and `environment.json`.

    Later changes count. What is known with torch and the cohort alone is UNKNOWN where the
    environment is that of `software`.
    """
    values: dict[str, Any] = dict(leaves(portable(config)))
    resolved = environment.get("resolved")
    for key in RESOLVED:
        if resolved is not None:
            values[key] = resolved[key.removeprefix("trainer.")]
        elif values[key] == "auto":
            values[key] = UNKNOWN
    values[DATA] = environment.get("data_fingerprint", UNKNOWN)
    values[WEIGHTS] = environment.get("weights", UNKNOWN)
    values["hardware"] = UNKNOWN if resolved is None else resolved["device_name"]
    values["threads"] = UNKNOWN if resolved is None else resolved["num_threads"]
    values |= {f"version of {name}": environment["versions"].get(name) for name in VERSIONS}
    values |= {f"code of {file}": digest for file, digest in environment["code"].items()}
    return values | {change.what: change.now for _, change in read_changes(environment)}


def software(config: "TrainConfig", overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return what of `environment.json` is known without torch and data.

    `overrides` are the command line's. Nothing in it describes the machine or its user.
    """
    weights = weights_file(config)
    return {
        "command": shlex.join(["python", "train.py", *map(without_folders, overrides)]),
        "git_commit": git_commit(),
        "versions": package_versions(),
        "code": code_digests(PACKAGE),
        **({} if weights is None else {"weights": sha256(weights)[:16]}),
    }


def weights_file(config: "TrainConfig") -> Path | None:
    """Return the file that the encoder starts from, where it does from one."""
    weights = (config.model.get("encoder") or {}).get("weights")
    return Path(weights) if weights and Path(weights).is_file() else None


def package_versions() -> dict[str, str]:
    """Return the versions of the installed packages that matter."""
    found = {}
    for name in (*VERSIONS, *OTHER_VERSIONS):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def git_commit() -> str | None:
    """Return that of the working tree whose top holds lymphoml/; of no other around it."""
    command = ["git", "-C", str(PACKAGE), "rev-parse", "--show-toplevel", "HEAD"]
    # In a hook, git's variables name the repository of the hook.
    own = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, env=own)
        top, commit = answer.stdout.splitlines()
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return commit if Path(top).resolve() == PACKAGE.parent.resolve() else None


def code_digests(package: Path) -> dict[str, str]:
    """Return a digest of each file of CODE: a commit would miss a change not committed."""
    paths = [package / name for name in CODE]
    files = [file for path in paths for file in (sorted(path.rglob("*.py")) or [path])]
    return {
        file.relative_to(package.parent).as_posix(): sha256(file)[:16]
        for file in files
        if not any(file.is_relative_to(package / name) for name in EXCLUDED_CODE)
    }


def read_changes(content: Mapping[str, Any]) -> list[tuple[str, Change]]:
    """Return the changes of `environment.json` or `metrics.json`, each after its time (UTC).

    Raises ValueError where they are malformed.
    """
    try:
        changes = [
            (session["when"], Change(**change))
            for session in content.get(CHANGES, [])
            for change in session["changes"]
        ]
        if not all(isinstance(text, str) for when, each in changes for text in (when, each.what)):
            raise TypeError
        return changes
    except (TypeError, KeyError, AttributeError):
        raise ValueError(f"{CHANGES} is not a list of sessions") from None


def record(environment: Mapping[str, Any], changes: Iterable[Change]) -> dict[str, Any]:
    """Return the environment with a session, now, of a resume after these changes."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    session = {"when": now, "changes": [asdict(change) for change in changes]}
    return {**environment, CHANGES: [*environment.get(CHANGES, []), session]}


def summarize(environment: Mapping[str, Any]) -> list[str]:
    """Return a line for each change; the same day's same change once."""
    changes = read_changes(environment)
    return list(dict.fromkeys(f"{when[:10]}: {change}" for when, change in changes))


def data_fingerprint(environment: Mapping[str, Any]) -> str:
    """Return that of the data which the run learned from last."""
    found = [str(change.now) for _, change in read_changes(environment) if change.what == DATA]
    return [environment.get("data_fingerprint", ""), *found][-1]


def make_fingerprint(cohort: "Cohort", images: str | None, shuffle: bool) -> str:
    """Return that of the table, of `images` (a `content_key`) unless None, and of the rows' order
    where training follows it."""
    table = cohort.fingerprint()
    parts = [table] if images is None else [table[:16], images[:16]]
    if not shuffle:
        parts.append(hashlib.sha256(" ".join(cohort.in_table_order).encode()).hexdigest()[:16])
    return "-".join(parts)


def split_fingerprint(fingerprint: str) -> tuple[str, str | None]:
    """Return what `make_fingerprint` has of the table, 16 digits, and of images, None without."""
    table, *others = fingerprint.split("-")
    return table[:16], others[0] if others and len(table) == 16 else None


def check_data(
    run: Path, environment: Mapping[str, Any], cohort: "Cohort", images: str, shuffle: bool
) -> None:
    """Raise InputError unless these labelled patients are those that the run learned from."""
    if make_fingerprint(cohort, images, shuffle) != data_fingerprint(environment):
        changed = "the cohort's table or images have changed since it was trained"
        raise InputError(f"run {run}: {changed}. Set data.root to that cohort.")


def without_folders(override: str) -> str:
    """Return, of a path that leaves the project only the last part, of a list with one nothing."""
    key, equals, value = override.partition("=") if "=" in override else ("", "", override)
    bare = value.replace("\\", "").strip("'\"")  # as Hydra reads it
    if leaves_project(bare):
        return f"{key}{equals}{PurePath(bare).name}"
    if any(map(leaves_project, re.split(r"[\[\]{}()'\":=,\s\\]+", value))):
        return f"{key}{equals}..."
    return override
