"""What makes a run this run: the keys that count, its folder's name, where two runs differ."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

# These say where and how a run is made, never what is learned: they name no run folder, and may
# differ between two calls on one.
FREE = {"fold", "name", "tags", "logger", "hydra", "data.root", "data.cache", "data.workers",
        "data.worker_timeout", "data.image_baselines", "trainer.progress", "trainer.threads",
        "resume", "on_fold_error"}  # fmt: skip
LONGEST_NAME = 160  # of the 255 bytes that file systems allow


def is_free(key: str) -> bool:
    return any(f"{key}.".startswith(f"{free}.") for free in FREE)


def slug(overrides: Iterable[str]) -> str:
    """The run folder's name: the overrides that count, sorted; `default` where there is none.

    Of a path only the last part is kept: the folders above tell of the machine. A number is
    written as Hydra's sweeper writes it, so that `lr=1e-3` is one run, swept or not.
    """
    kept = []
    for word in overrides:
        key, equals, value = word.lstrip("+").partition("=")
        key = key.replace("/", ".")
        if not is_free(key):
            kept.append(f"{key}{equals}{_canonical(_last_part(value))}")
    name = ",".join(sorted(kept)) or "default"
    if len(name.encode()) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME // 2]}~{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _last_part(path: str) -> str:
    """Without the quotes that a path with = in it takes on the command line."""
    last = path.rpartition("/")[2]
    return last if last == path else last.rstrip("'\"")


def _canonical(value: str) -> str:
    if value.lower() in ("true", "false", "null"):
        return value.lower()
    is_float = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value) and not value.isdigit()
    return str(float(value)) if is_float else value


def leaves(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything in a configuration that counts."""
    if isinstance(config, dict) and config:
        for part, value in config.items():
            yield from leaves(value, f"{key}.{part}".lstrip("."))
    elif not is_free(key):
        yield key, config
