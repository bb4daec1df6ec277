"""The options of a command: a dataclass, read from `key=value`."""

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from lymphoml.core.errors import InputError, quoted, unknown_key
from lymphoml.core.untrusted import leaves, parse_yaml

T = TypeVar("T")
REQUIRED: Any = MISSING
KINDS: dict[Any, str] = {
    int: "a whole number", float: "a number", bool: "true or false", str | None: "text",
    list[int]: "whole numbers, as [1,2]", list[str]: "a list, as [A,B]",
}  # fmt: skip


def option(default: Any, help: str) -> Any:
    """Return a dataclass field with its line of `--help`."""
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: default, metadata={"help": help})
    return dataclasses.field(default=default, metadata={"help": help})


def print_help(options: type) -> None:
    print(f"{options.__doc__}\n")
    for key in dataclasses.fields(options):
        default = key.default_factory() if callable(key.default_factory) else key.default
        shown = "required" if default == REQUIRED else f"default {default}"
        print(f"  {key.name:14} {key.metadata['help']} ({shown})")


def parse(options: type[T], words: Sequence[str]) -> T:
    """Return `key=value` words as the dataclass of a command: YAML, or text. Raises InputError.

    Where the command has a field `values` and `images` is given, other keys are texts of `values`.
    """
    types = {each.name: each.type for each in dataclasses.fields(options)}  # type: ignore[arg-type]
    merged: Any = OmegaConf.structured(options)
    keys: list[str] = []
    collects = "values" in types and any(word.startswith("images=") for word in words)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise InputError(f"{word}: give options as key=value")
        kind = types.get(key.partition(".")[0])
        is_group = get_origin(kind) is dict
        of_patient = kind is None and collects and key.isidentifier()
        of_patient |= key.startswith("values.") and "values" in types
        if not of_patient and (kind is None or ("." in key and not is_group)):
            raise InputError(unknown_key(key, types))
        try:
            if of_patient:
                content: Any = {"values": {key.removeprefix("values."): value}}
            elif kind is str or (kind == str | None and value not in ("", "null")):
                quotes = re.fullmatch(r"(['\"]).*\1", value, re.DOTALL)
                text = value[1:-1] if quotes else value
                content = {key: os.path.expanduser(text) if text.startswith("~/") else text}
            else:
                if re.match(r"[^'\"\[{].*\s#", value):
                    raise ValueError("quote it: YAML reads no further than a # after a space")
                if value.startswith("*"):  # a pattern of file names; an alias is never valid
                    value = repr(value)
                given = parse_yaml(value)
                if key in types and is_group and not isinstance(given, dict):
                    raise ValueError(f"give {key}.KEY=VALUE")
                content = OmegaConf.from_dotlist([f"{key}={value}"])
                if key == "values":
                    node: Any = yaml.compose(value, yaml.SafeLoader)
                    content = {key: {name.value: text.value for name, text in node.value}}
            merged = OmegaConf.merge(merged, content)
            OmegaConf.to_container(merged, resolve=True)
        except ValidationError:
            kinds = [KINDS[each] for each in (kind, *get_args(kind)) if each in KINDS]
            raise InputError(f"{quoted(word, 200)}: must be {kinds[0]}") from None
        except (ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
            raise InputError(f"{quoted(word, 200)}: {first_line(error)}") from None
        found = leaves(OmegaConf.to_container(OmegaConf.create(content)))
        keys += [each.removeprefix("values.") for each, _ in found]
    reject_repeated(keys)
    if missing := sorted(OmegaConf.missing_keys(merged)):
        raise InputError(f"{key}=...: this option is required" for key in missing)
    return OmegaConf.to_object(merged)  # type: ignore[return-value]


def reject_repeated(keys: Iterable[str]) -> None:
    """Raise InputError for a key that is given twice: one of its values would have no effect."""
    if repeated := [key for key, count in Counter(keys).items() if count > 1]:
        raise InputError(f"{key}: is given twice; give it once" for key in repeated)


def first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))


def two_values(key: str, values: list[T]) -> tuple[T, T]:
    """Return both. Raises InputError unless there are two."""
    if len(values) != 2:
        raise InputError(f"{key}={values}: give two values, as [first,second]")
    return values[0], values[1]


def parse_run_list(text: str, key: str = "runs") -> list[Path]:
    """Return the run folders of `[A,B]`; one with a comma in its name is quoted."""
    items: Any = None
    with suppress(yaml.YAMLError):
        items = yaml.safe_load(text)
    if not isinstance(items, list) or not items:
        raise InputError(f"{key}={text}: give run folders as [A,B,...]")
    paths = [Path(str(item)) for item in items]
    for path in paths:
        if not path.is_dir():
            raise InputError(
                f"{key}={text}: {path} is not a folder; quote one whose name has a comma: "
                f"""{key}='["A,B",C]'"""
            )
    return paths


def check_out(out: Path, root: Path, name: str) -> None:
    """Raise InputError for an output file within the cohort, and for a folder; suggest `name`."""
    if out.resolve().is_relative_to(root.expanduser().resolve()):
        raise InputError(f"out={out}: is within data.root={root}, which is only read")
    if out.is_dir():
        raise InputError(f"out={out}: is a folder; give a file, such as {out / name}")


def reject_ensemble(run: Path) -> None:
    """Raise InputError, naming its members, for a run that has no models of its own."""
    from lymphoml.runs.ensemble import member_names

    if names := member_names(run):
        raise InputError(f"run={run}: is an ensemble; give a member: {', '.join(names)}")
