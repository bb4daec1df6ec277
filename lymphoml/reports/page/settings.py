"""Which settings tell the runs of a sweep apart, and how a line of a figure names them."""

from collections.abc import Iterable, Sequence, Set
from typing import Any

from lymphoml.runs.naming import is_runtime_key

FIRST = ("optim", "lr", "scheduler")
OF_THE_RUN = {"seed"}  # what a group may have as well

Settings = dict[str, Any]


def flatten(config: dict[str, Any], prefix: str = "") -> Settings:
    """What a configuration says of the training: dotted keys and their leaves, without free ones.

    A group with a `_target_` is also a key, with the name of its class:
    `{"optim": {"_target_": "torch.optim.SGD", "momentum": 0.9}}` becomes
    `{"optim": "SGD", "optim.momentum": 0.9}`. So is one with a `kind`, such as weight_averaging.
    """
    flat: Settings = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if name in ("_target_", "kind"):
            flat[prefix.removesuffix(".")] = (
                None if value is None else str(value).rpartition(".")[2]
            )
        elif isinstance(value, dict):
            flat |= flatten(value, f"{key}.")
        elif not is_runtime_key(key):
            flat[key] = value
    return flat


def differing(configs: Sequence[dict[str, Any]]) -> list[Settings]:
    """Of each configuration, the settings in which it differs from some other one.

    An argument counts only among runs that share the classes above it: that SGD has a momentum
    follows from its being SGD, and Adam is not said to have none. A setting that only repeats a
    shorter one (`optim.lr` beside `lr`) is left out.
    """
    flat = [flatten(config) for config in configs]
    keys = dict.fromkeys(key for settings in flat for key in settings)  # ordered, each once
    chosen: dict[tuple[str, ...], str] = {}
    for key in sorted((key for key in keys if _varying(key, flat)), key=_order):
        chosen.setdefault(tuple(repr(settings.get(key)) for settings in flat), key)
    varying = {key: _varying(key, flat) for key in chosen.values()}
    return [
        {key: settings.get(key) for key, among in varying.items() if _above(key, settings) in among}
        for settings in flat
    ]


def label(settings: Settings, among: Iterable[str] = ()) -> str:
    """`{"optim": "SGD", "lr": 0.001, "scheduler": None}` as `SGD, lr 0.001, no scheduler`.

    `among` are the keys of all lines of a figure, so that a setting has one name in all of them.
    """
    keys = {*settings, *among, *OF_THE_RUN}
    return ", ".join(_phrase(_name(key, keys), value) for key, value in settings.items())


def _name(key: str, keys: Set[str]) -> str:
    """As many of the last parts of a key as tell it from the others."""
    parts = key.split(".")
    for depth in range(1, len(parts)):
        if sum(each.split(".")[-depth:] == parts[-depth:] for each in keys) == 1:
            parts = parts[-depth:]
            break
    return " ".join(parts).replace("_", " ")


def _varying(key: str, flat: Sequence[Settings]) -> set[tuple[str, ...]]:
    """The classes above `key` among whose runs it differs."""
    seen: dict[tuple[str, ...], set[str]] = {}
    for settings in flat:
        seen.setdefault(_above(key, settings), set()).add(repr(settings.get(key)))
    return {group for group, values in seen.items() if len(values) > 1}


def _above(key: str, settings: Settings) -> tuple[str, ...]:
    parts = key.split(".")
    groups = [".".join(parts[:depth]) for depth in range(1, len(parts))]
    return tuple(repr(settings.get(group)) for group in groups)


def _order(key: str) -> tuple[int, int]:
    """What an ablation turns on comes first, and a shorter key before the one that repeats it."""
    return FIRST.index(key) if key in FIRST else len(FIRST), key.count(".")


def _phrase(name: str, value: Any) -> str:
    if value is None or value is False:
        return f"no {name}"
    if value is True:
        return name
    return value if isinstance(value, str) else f"{name} {value}"
