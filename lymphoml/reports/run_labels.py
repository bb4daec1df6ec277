"""Label runs that are shown together by the settings in which they differ."""

from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import Any

from lymphoml.runs.finished_run import Run
from lymphoml.runs.naming import RUNTIME_KEYS, in_groups

FIRST = ("optim", "lr", "scheduler")  # what the paper's ablation varies
TOP_LEVEL = {"seed"}  # a key that groups may have as well
MAX_LABEL = 80  # characters; of longer labels all runs go by their folders

Settings = dict[str, Any]


def run_labels(runs: Sequence[Run]) -> dict[Path, str]:
    """The settings in which each run differs; its folder where these are equal or too long."""
    settings = varying_settings([run.config for run in runs])
    keys = {key for each in settings for key in each}
    labels = [settings_label(each, keys) for each in settings]
    names = short_names([run.path for run in runs])
    if max(map(len, labels)) > MAX_LABEL:
        labels = [""] * len(runs)
    return {
        run.path: label if label and labels.count(label) == 1 else name
        for run, label, name in zip(runs, labels, names, strict=True)
    }


def short_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of each path, as few as make all different."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def flatten(config: dict[str, Any], prefix: str = "") -> Settings:
    """The configuration as dotted keys and leaves, without keys that do not affect results.

    A group with a `_target_` or a `kind` is also a key, with the name of its class:
    `{"optim": {"_target_": "torch.optim.SGD", "momentum": 0.9}}` becomes
    `{"optim": "SGD", "optim.momentum": 0.9}`.
    """
    flat: Settings = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if name in ("_target_", "kind"):
            cls = None if value is None else str(value).rpartition(".")[2]
            flat[prefix.removesuffix(".")] = cls
        elif isinstance(value, dict):
            flat |= flatten(value, f"{key}.")
        elif not in_groups(key, RUNTIME_KEYS):
            flat[key] = value
    return flat


def varying_settings(configs: Sequence[dict[str, Any]]) -> list[Settings]:
    """The settings that differ among configurations of the same classes above, none repeated."""
    flat = [flatten(config) for config in configs]
    keys = dict.fromkeys(key for settings in flat for key in settings)  # an ordered set
    chosen: dict[tuple[str, ...], str] = {}
    for key in sorted((key for key in keys if _varying_among(key, flat)), key=_order):
        chosen.setdefault(tuple(repr(settings.get(key)) for settings in flat), key)
    varying = {key: _varying_among(key, flat) for key in chosen.values()}
    return [
        {
            key: settings.get(key)
            for key, among in varying.items()
            if _classes_above(key, settings) in among
        }
        for settings in flat
    ]


def settings_label(settings: Settings, all_keys: Iterable[str] = ()) -> str:
    """`{"optim": "SGD", "lr": 0.001, "scheduler": None}` as `SGD, lr 0.001, no scheduler`."""
    keys = {*settings, *all_keys, *TOP_LEVEL}
    return ", ".join(_phrase(_short_key(key, keys), value) for key, value in settings.items())


def _varying_among(key: str, flat: Sequence[Settings]) -> set[tuple[str, ...]]:
    """The combinations of classes above `key` within which its value differs."""
    values: dict[tuple[str, ...], set[str]] = {}
    for settings in flat:
        values.setdefault(_classes_above(key, settings), set()).add(repr(settings.get(key)))
    return {classes for classes, different in values.items() if len(different) > 1}


def _classes_above(key: str, settings: Settings) -> tuple[str, ...]:
    parts = key.split(".")
    groups = [".".join(parts[:depth]) for depth in range(1, len(parts))]
    return tuple(repr(settings.get(group)) for group in groups)


def _order(key: str) -> tuple[int, int]:
    return FIRST.index(key) if key in FIRST else len(FIRST), key.count(".")


def _short_key(key: str, keys: Set[str]) -> str:
    """As many of the last parts of a key as no other key ends with."""
    parts = key.split(".")
    for depth in range(1, len(parts)):
        if sum(each.split(".")[-depth:] == parts[-depth:] for each in keys) == 1:
            parts = parts[-depth:]
            break
    return " ".join(parts).replace("_", " ")


def _phrase(name: str, value: Any) -> str:
    if value is None or value is False:
        return f"no {name}"
    if value is True:
        return name
    return value if isinstance(value, str) else f"{name} {value}"
