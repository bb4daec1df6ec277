"""What trackers may know: of paths nothing, of results numbers only."""

import hashlib
import math
import re
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from lymphoml.core.privacy import leaves_project

# Settings that say where something lies on this machine, and where the trackers themselves are.
LOCAL = {"root", "cache", "folds_csv", "table", "image_dir", "logger"}
LONGEST_GROUP = 128  # characters, W&B's limit


def factors(config: Mapping[str, Any]) -> dict[str, Any]:
    """What runs are compared by, at the top level and in a word or number each."""
    return {
        "optim": _short_name(config["optim"]),
        "lr": config["lr"],
        "scheduler": _short_name(config["scheduler"]),
    }


def public_config(config: Any) -> Any:
    """The configuration without what is this machine's: LOCAL keys, paths beyond the project."""
    if isinstance(config, Mapping):
        return {key: public_config(item) for key, item in config.items() if key not in LOCAL}
    if isinstance(config, list):
        return [public_config(item) for item in config]
    return "(path)" if isinstance(config, str) and leaves_project(config) else config


def public_slug(slug: str) -> str:
    """A run folder's name without overrides that hold paths, cut to fit a group's name."""
    kept = []
    for word in slug.split(","):
        key, _, value = word.partition("=")
        # In a folder's name, slashes have become dots.
        if key.split(".")[-1] not in LOCAL and not re.match(r"~|\.(?!\d)", value):
            kept.append(word)
    name = ",".join(kept) or "default"
    if len(name) <= LONGEST_GROUP:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: LONGEST_GROUP - 9]}~{digest}"


def numbers(metrics: Mapping[Any, Any]) -> dict[str, int | float]:
    """The finite numbers; of a nested `score`, `value` becomes `score` and `low` `score/low`."""
    flat: dict[str, int | float] = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            for part, number in numbers(value).items():
                flat[key if part == "value" else f"{key}/{part}"] = number
        elif isinstance(value, Real) and math.isfinite(value):
            flat[key] = int(value) if isinstance(value, Integral) else float(value)
    return flat


def _short_name(spec: Mapping[str, Any] | None) -> str:
    """`torch.optim.SGD` is sgd, `ExponentialLR` exponential: the options' names in `conf/`."""
    target = (spec or {}).get("_target_") or "none"
    return re.sub(r"(annealing)?lr$", "", target.split(".")[-1].lower())
