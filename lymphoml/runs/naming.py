"""Which keys decide on a run's numbers, and the name that these give its folder."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from lymphoml.core.untrusted import leaves as all_leaves

# Where and how a run is made, never what is learned: they name no folder, and may differ between
# two calls on one run.
RUNTIME_KEYS = {
    "fold", "name", "tags", "logger", "hydra", "resume", "on_fold_error", "data.root",
    "data.follow_links", "data.cache", "data.device_cache", "data.num_workers", "data.timeout",
    "data.image_baselines", "trainer.enable_progress_bar", "trainer.num_threads",
}  # fmt: skip
MAX_NAME_BYTES = 160  # of the 255 that file systems allow


def in_groups(key: str, groups: Iterable[str]) -> bool:
    """Return whether the dotted key, or a group that holds it, is one of `groups`."""
    return any(f"{key}.".startswith(f"{each}.") for each in groups)


def slug(overrides: Iterable[str]) -> str:
    """Return the run folder's name: the overrides that count, sorted; `default` without any.

    Of a path only the last part is kept: the folders above it describe the machine. Numbers are
    written as Hydra's sweeper writes them, so that `lr=1e-3` is one run, swept or not.
    """
    kept = []
    for override in overrides:
        key, equals, value = override.lstrip("+").partition("=")
        key = key.replace("/", ".")
        if not in_groups(key, RUNTIME_KEYS):
            kept.append(f"{key}{equals}{_canonical(_last_part(value))}")
    name = ",".join(sorted(kept)) or "default"
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    return f"{name[: MAX_NAME_BYTES // 2]}~{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def leaves(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of everything in a plain configuration that counts."""
    return (leaf for leaf in all_leaves(config) if not in_groups(leaf[0], RUNTIME_KEYS))


def _last_part(path: str) -> str:
    """Without the quotes that a path with = in it takes on the command line."""
    last = path.rpartition("/")[2]
    return last if last == path else last.rstrip("'\"")


def _canonical(value: str) -> str:
    if value.lower() in ("true", "false", "null"):
        return value.lower()
    is_float = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value) and not value.isdigit()
    return str(float(value)) if is_float else value
