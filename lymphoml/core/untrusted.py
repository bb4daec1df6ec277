"""Reading files that a stranger may have made: nothing hangs, nothing grows beyond its bounds."""

import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lymphoml.core.errors import InputError, one_line

SMALL = 1 << 26  # bytes of a table or an image: 64 MiB
SETTINGS = 1 << 20  # of a yaml file
DEEPEST = 40  # mappings and lists within each other
FORMULA = ("=", "+", "-", "@")  # what a spreadsheet takes for the beginning of one


def read_bytes(path: Path, most: int = SMALL) -> bytes:
    """A regular file's content. Raises OSError, whose `strerror` tells, for anything else.

    A pipe would block for ever, a device never end.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except ValueError:  # NUL in the name
        raise OSError(errno.EINVAL, "no file can have this name") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if status.st_size <= most:
            with open(handle, "rb", closefd=False) as file:
                content = file.read(most + 1)
            if len(content) <= most:
                return content
        raise OSError(errno.EFBIG, f"larger than {most >> 20} MiB")
    finally:
        os.close(handle)


def read_text(path: Path, most: int = SMALL) -> str:
    """Likewise; UTF-8, else UnicodeDecodeError."""
    return read_bytes(path, most).decode("utf-8-sig")


def read_yaml(path: Path) -> Any:
    """Plain data. Raises OSError, and ValueError with a line on what is not plain."""
    text = read_text(path, SETTINGS)
    check_yaml(text)
    return _seen(yaml.safe_load(text))


def read_json(path: Path) -> Any:
    """Likewise of JSON; NaN and infinity, which JSON does not have, are refused."""
    try:
        return _seen(json.loads(read_text(path), parse_constant=_refuse_constant))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_mapping(path: Path, advice: str) -> dict[str, Any]:
    """A yaml or json file that holds a mapping. Raises InputError, which says what to do."""
    try:
        content = read_json(path) if path.suffix == ".json" else read_yaml(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise InputError(
            f"{path} cannot be read: {reason or one_line(error)[:200]}; {advice}"
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no mapping; {advice}")
    return content


def check_yaml(text: str) -> None:
    """Raises ValueError for what makes yaml more than a way to write data down.

    An alias of an alias doubles at each step, a tag names what is to be built, of two equal keys
    one would be lost, and depth ends in a RecursionError.
    """
    try:
        _check_events(text)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        raise ValueError(f"not yaml: {error.problem or error.context}{line}") from None
    except (yaml.YAMLError, RecursionError):  # a character that yaml does not allow
        raise ValueError("not yaml") from None


def _check_events(text: str) -> None:
    keys: list[set[str] | None] = []  # of each open mapping those met; None of a list
    is_key: list[bool] = []
    documents = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        line = event.start_mark.line + 1  # type: ignore[union-attr]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError(f"line {line} has an anchor or an alias; write the value out")
        if getattr(event, "tag", None):
            raise ValueError(f"line {line} has a tag; give plain values")
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents > 1:
            raise ValueError(f"line {line} begins a second document; keep one")
        if isinstance(event, yaml.CollectionEndEvent):
            keys.pop()
            is_key.pop()
        elif isinstance(event, yaml.NodeEvent):
            own = keys[-1] if keys else None
            if own is not None:
                if is_key[-1] and isinstance(event, yaml.ScalarEvent):
                    if event.value in own:
                        raise ValueError(f"line {line} has the key {event.value[:60]!r} again")
                    own.add(event.value)
                is_key[-1] = not is_key[-1]
            if isinstance(event, yaml.CollectionStartEvent):
                keys.append(set() if isinstance(event, yaml.MappingStartEvent) else None)
                is_key.append(True)
                if len(keys) > DEEPEST:
                    raise ValueError(f"line {line} is nested more than {DEEPEST} deep")


def texts(value: Any) -> Iterator[str]:
    """All in a nested value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts([*value.keys(), *value.values()])
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)


def is_safe_text(name: str) -> bool:
    """Whether a name can stand in a table and on a terminal: no formula, nothing unprintable.

    A sign alone is no formula: the separator of a date is one.
    """
    return name.isprintable() and (len(name) == 1 or not name.startswith(FORMULA))


def _seen(content: Any) -> Any:
    """`content`, in which no text can steer a terminal or hide what it says."""
    for text in texts(content):
        if not text.replace("\n", "").isprintable():
            raise ValueError(f"{text[:60]!r} holds what cannot be seen")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


# A run folder reaches no other place: a link in one that was sent would lead out of it.


def reject_symlinks(run: Path) -> None:
    """Raises InputError where something in `run` or a folder of its is a link, pipe or device.

    What is read through one is another's, what is written lands elsewhere. The run folder itself
    may be a link: its user named it.
    """
    if not is_safe_text(run.name):
        raise InputError(f"run folder {run}: its name is a formula, or cannot be seen; rename it")
    if not run.is_dir():
        return
    for folder in (run, *(each for each in _entries(run) if _is_ours(each))):
        for entry in _entries(folder):
            if not _is_own(entry):
                raise InputError(
                    f"{entry}: a link, or no regular file; a run folder holds its own files"
                )


def _is_ours(path: Path) -> bool:
    """A tracker's folder may hold links; nothing of ours reads or writes there."""
    return path.is_dir() and not path.is_symlink() and path.name.startswith(("fold-", "test"))


def _is_own(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return True  # gone since, renamed by who trains another fold; or whoever needs it says why
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _entries(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in sorted(os.listdir(folder))]
    except OSError:
        return []  # whoever needs it will say so
