"""Refuse overrides of `train.py` that Hydra would accept and then ignore."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, Sweep

from lymphoml.cli.config import CONF
from lymphoml.cli.options import reject_repeated
from lymphoml.core.errors import InputError, quoted, unknown_key
from lymphoml.core.untrusted import leaves
from lymphoml.runs.naming import slug

PARAMS = "hydra.sweeper.params."
IGNORED = (  # keys; whether they have no effect in a sweep, in a single job; why
    (r"hydra\.run\.", True, False, "a sweep uses hydra.sweep.dir and .subdir"),
    (r"hydra[./](sweep|sweeper|launcher)\b", False, True, "add -m to run a sweep"),
    (r"hydra\.(overrides|runtime|job\.(id|num|config_name|override_dirname))\b", True, True,
     "Hydra sets it; leave it out"),
)  # fmt: skip


def check_overrides(words: Sequence[str], file: dict[str, Any], multirun: bool) -> None:
    """Raise InputError where a word has no effect, or jobs of a sweep would share a run folder.

    `file` is the content of the file that `-cn` names, {} without one; `multirun` is option `-m`.
    """
    parser = OverridesParser.create()
    given = parser.parse_overrides(list(words))
    hydra = file.get("hydra") or {}
    modes = [each.value() for each in given if each.key_or_group == "hydra.mode"]
    in_sweep = multirun or (modes or [hydra.get("mode")])[-1] == "MULTIRUN"
    if not in_sweep and not modes and (unread := _of_sweeps(file)):
        raise InputError(
            f"{unread}: has no effect; add -m for a sweep, or hydra: {{mode: MULTIRUN}} to the file"
        )
    keys = [key for each in given for key, _ in _leaves(each)]
    reject_repeated(keys)
    for each in given:
        for key, value in _leaves(each):
            if key.startswith("hydra"):
                _check_hydra(key, value, in_sweep)
            elif (CONF / f"./{key.partition('@')[0]}").is_dir():
                _check_option(key, value)
    if in_sweep:
        params = {**((hydra.get("sweeper") or {}).get("params") or {})}
        params |= {key.removeprefix(PARAMS): value for each in given
                   for key, value in _leaves(each) if key.startswith(PARAMS)}  # fmt: skip
        swept = parser.parse_overrides([f"{key}={value}" for key, value in params.items()])
        if repeated := [key for each in swept for key, _ in _leaves(each) if key in keys]:
            raise InputError(f"{key}: is swept; give {PARAMS}{key}=..." for key in repeated)
        if "subdir" not in (hydra.get("sweep") or {}) and "hydra.sweep.subdir" not in keys:
            _check_folders([*given, *swept])


def _of_sweeps(file: dict[str, Any]) -> str | None:
    """Return what a file sets that only a sweep reads, if anything."""
    entries = [each for each in file.get("defaults") or [] if isinstance(each, dict)]
    keys = [str(key) for each in entries for key in each]
    keys += [f"hydra/{key}" for key, value in (file.get("hydra") or {}).items() if value]
    return next((key for key in keys if re.search(r"hydra/(launcher|sweeper)", key)), None)


def _leaves(override: Override) -> list[tuple[str, Any]]:
    """Return the keys that an override sets, those within a mapping one by one, and values."""
    key, value = override.get_key_element().lstrip("+~"), override.value()
    return list(leaves(value, key)) if isinstance(value, dict) else [(key, value)]


def _check_option(group: str, value: Any) -> None:
    """Raise InputError for what cannot be the name of a file of `conf/`: Hydra would fail."""
    names = value if isinstance(value, list) else [value]
    if any(isinstance(name, int | float | list) or len(str(name)) > 200 for name in names):
        raise InputError(f"{group}={quoted(str(value), 60)}: must be the name of an option")


def _check_hydra(key: str, value: Any, in_sweep: bool) -> None:
    node: Any = HydraConf
    path = key.split(".")
    for depth, part in enumerate(path[1:], start=1):
        if dataclasses.is_dataclass(node):
            types = {each.name: each.type for each in dataclasses.fields(node)}
            if part not in types:
                raise InputError(unknown_key(key, [".".join([*path[:depth], n]) for n in types]))
            node = types[part]
    if key.startswith(PARAMS) and isinstance(value, Sweep):
        raise InputError(f"{key}: several values need quotes: '{key}=\"A,B\"'")
    for pattern, sweep, single, reason in IGNORED:
        if re.match(pattern, key) and (sweep if in_sweep else single):
            raise InputError(f"{key}: has no effect; {reason}")
    if key == "hydra.job.chdir" and value:
        raise InputError(f"{key}={value}: paths are relative to the folder of the command")


def _check_folders(overrides: Sequence[Override]) -> None:
    for each in overrides:
        (key, values), *_ = _leaves(each)
        if isinstance(values, ChoiceSweep) and key not in ("fold", "name"):
            choices = list(each.sweep_string_iterator())
            if len({slug([f"{key}={choice}"]) for choice in choices}) < len(choices):
                raise InputError(
                    f"{each.input_line}: these jobs would share a run folder; give other file "
                    f"names, or hydra.sweep.subdir='${{hydra:job.num}}'"
                )
