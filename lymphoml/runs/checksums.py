"""`SHA256SUMS` of a run and of each finished fold, as `sha256sum -c SHA256SUMS` reads it.

A run's numbers are shown, joined or used to predict only while its files are those it wrote.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lymphoml.core.errors import InputError
from lymphoml.core.files import sha256, write_json, write_text
from lymphoml.core.untrusted import SETTINGS, read_json, read_text

SUMS = "SHA256SUMS"
SOURCES = ("config.yaml", "environment.json", "folds.csv")  # which nothing else can restore
TABLES = ("predictions.csv", "outside_range.csv", "baselines.csv", "strata.csv", "instances.csv",
          "history.csv")  # fmt: skip
FILES = (*SOURCES, *TABLES, "metrics.json")
PREDICTIONS = "predictions_sha256"  # of what a result was made of
AGAIN = "run the same command again"
MOST = 10  # problems that are shown
WEIGHTS = (".ckpt", ".safetensors")  # large


def write_checksums(folder: Path, names: Sequence[str] = FILES) -> None:
    """List those of these files that a folder has; of a run's also each fold's, and `done.json`."""
    digests = {name: sha256(folder / name) for name in names if (folder / name).is_file()}
    for path in sorted(folder.glob(f"fold-*/{SUMS}")):
        fold = path.parent.name
        digests |= {f"{fold}/{name}": digest for name, digest in _read(path).items()}
        digests[f"{fold}/done.json"] = sha256(path.with_name("done.json"))
    write_text(folder / SUMS, "".join(f"{each}  {name}\n" for name, each in digests.items()))


def is_complete(run: Path) -> bool:
    """Return whether all of a run is written: its checksums come last."""
    return (run / SUMS).exists() and (run / "metrics.json").exists()


def verify_checksums(folder: Path, weights: bool = False) -> None:
    """Raise InputError, a line a file, unless all files of a run or a fold are as listed.

    Weights are read only if `weights`.
    """
    digests = _read(folder / SUMS)
    patterns = [*FILES, *(f"fold-*/{name}" for name in (*FILES, "done.json"))]
    present = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    problems = [
        f"{path} is not listed in {SUMS}; {_advice(path)}"
        for path in present
        if path.relative_to(folder).as_posix() not in digests
    ]
    for name, digest in digests.items():
        path = folder / name
        if path.suffix in WEIGHTS and not weights:
            continue
        if not path.is_file():
            problems.append(f"{path} is missing; {_advice(path)}")
        elif sha256(path) != digest:
            problems.append(f"{path} is not as the run wrote it; {_advice(path)}")
    if (more := len(problems) - MOST) > 0:
        problems[MOST:] = [f"{folder}: {more} other files are not as listed"]
    if problems:
        raise InputError(problems)


def changed_files(folder: Path, suffixes: Sequence[str] = ()) -> list[Path]:
    """Return the files that are not as listed, weights left out; of `suffixes`, unlisted ones."""
    digests = _read(folder / SUMS)
    unlisted = {each.name for each in folder.iterdir() if each.suffix in suffixes} - {*digests}
    return [folder / name for name in sorted(unlisted)] + [
        folder / name
        for name, digest in digests.items()
        if Path(name).suffix not in WEIGHTS
        and not ((folder / name).is_file() and sha256(folder / name) == digest)
    ]


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write a result made of the run's predictions, with their digest and one of itself."""
    content = content | {PREDICTIONS: sha256(path.with_name("predictions.csv"))}
    write_json(path, content | {"sha256": seal(content)})


def read_sealed(path: Path, command: str) -> dict[str, Any] | None:
    """Return a result, None without one; `command` of `python -m lymphoml` makes it.

    Raises InputError where it is damaged, or was made from other predictions.
    """
    if not path.exists():
        return None
    remake = f"make it again with `python -m lymphoml {command} run={path.parent}`, or remove it"
    try:
        content = read_json(path)
        if content.pop("sha256") != seal(content):
            raise ValueError
        digest = content[PREDICTIONS]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise InputError(f"{path} is not a result of this program; {remake}") from None
    if digest != sha256(path.with_name("predictions.csv")):
        raise InputError(f"{path}: the run's predictions have changed since; {remake}")
    return content


def seal(content: dict[str, Any]) -> str:
    """Return a digest of what will be written, to be written with it."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> dict[str, str]:
    """Return the digest of each file by its name. Raises InputError."""
    try:
        lines = read_text(path, SETTINGS).splitlines()
    except (OSError, ValueError) as error:
        reason = isinstance(error, OSError) and error.strerror
        raise InputError(f"{path} cannot be read: {reason or 'no text'}; {_advice(path)}") from None
    found = {}
    for number, line in enumerate(lines, start=1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name or ".." in name or name.startswith("/"):
            raise InputError(f"{path}:{number}: is no digest and file; {_advice(path)}")
        found[name] = digest
    return found


def _advice(path: Path) -> str:
    """What to do about a file that is missing or has changed."""
    folder = path.parent
    all_of_it = folder.name.startswith("fold-") or path.name in SOURCES
    return f"restore it, or remove {folder if all_of_it else folder / SUMS} and {AGAIN}"
