"""What trackers may receive: settings without paths, and of results numbers only."""

import hashlib
import math
import re
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from lymphoml.core.privacy import leaves_project

# Settings that name a place on this machine, and the trackers' own.
LOCAL_KEYS = {"root", "cache", "folds_csv", "table", "image_dir", "logger"}
MAX_GROUP_LENGTH = 128  # characters, W&B's limit


def sweep_factors(config: Any) -> dict[str, Any]:
    """Return what runs are compared by, each a short name or a number."""
    optim, scheduler = _short_name(config.optim), _short_name(config.scheduler)
    return {"optim": optim, "lr": config.lr, "scheduler": scheduler}


def public_config(config: Any) -> Any:
    """Return the configuration without LOCAL_KEYS and paths that leave the project."""
    if isinstance(config, Mapping):
        return {key: public_config(item) for key, item in config.items() if key not in LOCAL_KEYS}
    if isinstance(config, list | tuple):
        return [public_config(item) for item in config]
    return "(path)" if isinstance(config, str) and leaves_project(config) else config


def public_slug(slug: str) -> str:
    """Return a run folder's name without overrides that hold paths, as long as a group may be."""
    kept = []
    for override in slug.split(","):
        key, _, value = override.partition("=")
        # In a folder's name slashes have become dots.
        if key.split(".")[-1] not in LOCAL_KEYS and not re.match(r"~|\.(?!\d)", value):
            kept.append(override)
    name = ",".join(kept) or "default"
    if len(name) <= MAX_GROUP_LENGTH:
        return name
    return f"{name[: MAX_GROUP_LENGTH - 9]}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def finite_scalars(metrics: Mapping[Any, Any]) -> dict[str, int | float]:
    """Return the finite numbers; a nested `score` with `value` and `low` gives score, score/low."""
    flat: dict[str, int | float] = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            for part, number in finite_scalars(value).items():
                flat[key if part == "value" else f"{key}/{part}"] = number
        elif isinstance(value, Real) and math.isfinite(value):
            flat[key] = int(value) if isinstance(value, Integral) else float(value)
    return flat


def _short_name(spec: Mapping[str, Any] | None) -> str:
    """`torch.optim.SGD` is sgd, `ExponentialLR` exponential: the options' names in `conf/`."""
    target = (spec or {}).get("_target_") or "none"
    return re.sub(r"(annealing)?lr$", "", target.split(".")[-1].lower())
