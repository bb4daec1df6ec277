"""What trackers may receive: settings without paths, and of results numbers only."""

import hashlib
import math
import re
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from lymphoml.core.privacy import leaves_project
from lymphoml.models.build import is_fitted, uses_images

# Settings that name a place on this machine, and the trackers' own.
LOCAL_KEYS = {"root", "cache", "folds_csv", "table", "image_dir", "logger"}
PATHS = {"weights", "path"}  # keys whose value may be one, within the project, too
MAX_GROUP_LENGTH = 128  # characters, W&B's limit
# A run's summary, by the keys of `metrics.json`: what one would sort runs by.
SUMMARY = {name: f"scores/all/{name}" for name in ("sensitivity", "specificity", "brier")}
SUMMARY |= {"n_patients": "n_patients", "best_epoch_gap": "best_epoch_gap",
            "best_epoch_balanced_accuracy": "best_epoch_balanced_accuracy/mean"}  # fmt: skip
INTERVALS = {
    "balanced_accuracy": "balanced_accuracy", "auroc": "auroc", "gain/auroc": "gain/all/auroc",
    "hard/balanced_accuracy": "scores/hard/balanced_accuracy", "hard/auroc": "scores/hard/auroc",
    "specificity_at_95": "scores/all/specificity_at_95",
}  # fmt: skip
SUMMARY |= {f"{name}{limit}": f"{key}{limit}"
            for name, key in INTERVALS.items() for limit in ("", "/low", "/high")}  # fmt: skip
FOLD_SCORES = ("n", "n_positive", "balanced_accuracy", "auroc", "sensitivity", "specificity",
               "specificity_at_95", "brier")  # fmt: skip


def sweep_factors(config: Any, choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return what runs are compared by, by the last part of Hydra's key; None: not used.

    `choices` are the options that Hydra chose, by group; without them classes give the names.
    """
    model, data = config.model, config.data
    parts = {f"model/{part}": model[part] for part in ("encoder", "pooling", "fusion")}
    parts |= {"optim": config.optim, "scheduler": config.scheduler}
    names = {group.rpartition("/")[2]: choices.get(group) or _short_name(spec)
             for group, spec in parts.items()}  # fmt: skip
    names["encoder"] = model["encoder"].get("name") or names["encoder"]
    features = "file" if data.feature_file else "+".join(data.features.blocks) or None
    factors = names | {"preset": choices.get("experiment"), "features": features, "lr": config.lr,
                       "crop": data.crop, "resize": data.resize, "seed": config.seed}  # fmt: skip
    unused = ["optim", "lr", "scheduler"] if is_fitted(model) else []
    if not uses_images(model):
        unused += ["features", "encoder", "pooling", "crop", "resize"]
    elif data.feature_file:
        unused += ["crop", "resize"]
    return public_config(factors | dict.fromkeys(unused))


def public_config(config: Any) -> Any:
    """Return the configuration without LOCAL_KEYS and paths that leave the project."""
    if isinstance(config, Mapping):
        return {
            key: "(path)" if key in PATHS and "/" in str(item) else public_config(item)
            for key, item in config.items()
            if key not in LOCAL_KEYS
        }
    if isinstance(config, list | tuple):
        return [public_config(item) for item in config]
    return "(path)" if isinstance(config, str) and leaves_project(config) else config


def public_slug(slug: str, name: str = "") -> str:
    """Return SLUG, or NAME/SLUG, without overrides that hold paths, as long as a group may be."""
    kept = []
    for override in slug.split(","):
        key, _, value = override.partition("=")
        # In a folder's name slashes have become dots.
        if key.split(".")[-1] not in LOCAL_KEYS and not re.match(r"~|\.(?!\d)", value):
            kept.append(override)
    name = f"{name}/" * bool(name) + (",".join(kept) or "default")
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


def metric_rows(metrics: Mapping[str, Any]) -> list[tuple[str, float, float | None, float | None]]:
    """Return every number of `metrics.json`: its key, value and the limits of its interval."""
    flat = finite_scalars({**metrics, "folds": {each["fold"]: each for each in metrics["folds"]}})
    return [(key, value, flat.get(f"{key}/low"), flat.get(f"{key}/high"))
            for key, value in flat.items() if not key.endswith(("/low", "/high"))]  # fmt: skip


def _short_name(spec: Mapping[str, Any] | None) -> str:
    """`torch.optim.SGD` is sgd, `ExponentialLR` exponential: the options' names in `conf/`."""
    target = (spec or {}).get("_target_") or "none"
    return re.sub(r"(annealing)?lr$", "", target.split(".")[-1].lower())
