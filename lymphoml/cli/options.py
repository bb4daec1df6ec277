"""What every command's dataclass of options is made of."""

from dataclasses import field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from lymphoml.core.errors import InputError

T = TypeVar("T")


def option(default: Any, help: str) -> Any:
    """A dataclass field with its line of `--help`."""
    if isinstance(default, list | dict):
        return field(default_factory=lambda: default, metadata={"help": help})
    return field(default=default, metadata={"help": help})


def pair(key: str, values: list[T]) -> tuple[T, T]:
    """Raises InputError unless there are two."""
    if len(values) != 2:
        raise InputError(f"{key}={values}: give two values, as [first,second]")
    return values[0], values[1]


def parse_run_list(text: str, key: str = "runs") -> list[Path]:
    """Folders in square brackets; one that holds a comma stands in quotes."""
    try:
        items = yaml.safe_load(text)
    except yaml.YAMLError:
        items = None
    if not isinstance(items, list) or not items:
        raise InputError(f"{key}={text}: give run folders as [A,B,...]")
    paths = [Path(str(item)) for item in items]
    for path in paths:
        if not path.is_dir():
            raise InputError(
                f"{key}={text}: {path} is no folder; one whose name holds a comma goes in quotes: "
                f"""{key}='["A,B",C]'"""
            )
    return paths


def refuse_out(out: Path, root: Path, name: str) -> None:
    """Before minutes of work: raises InputError for a file in the cohort, and for a folder.

    `name` is what the file could be called.
    """
    root = root.expanduser()
    if out.resolve().is_relative_to(root.resolve()):
        raise InputError(f"out={out}: lies in data.root={root}, which is only read; choose another")
    if out.is_dir():
        raise InputError(f"out={out}: is a folder; give the file, such as {out / name}")
