"""Read files that a stranger may have made: nothing hangs, nothing grows beyond its bounds."""

import csv
import errno
import io
import json
import os
import stat
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from lymphoml.core.errors import InputError, one_line

SMALL = 1 << 26  # bytes of a table or an image: 64 MiB
SETTINGS = 1 << 20  # of a yaml file
SPARE_CELLS = 1_000_000  # of a csv: a quoted cell may have several lines
MAX_DEPTH = 40  # of mappings and lists within each other
FORMULA = ("=", "+", "-", "@")  # how a formula starts in a spreadsheet


def read_bytes(path: Path, most: int = SMALL) -> bytes:
    """Return a regular file's content. Raises OSError, whose `strerror` says why, for any other."""
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
    """Return the same as UTF-8. Raises UnicodeDecodeError, too."""
    return read_bytes(path, most).decode("utf-8-sig")


def read_csv(path: Path, most: int = SMALL, **options: Any) -> Any:
    """Return a table as pandas does, which fills short rows up. Raises OSError and ValueError.

    A million short rows below a header of a million columns are refused: a cell has its separator.
    """
    import pandas as pd  # half a second that most commands need not wait for

    content = read_bytes(path, most)
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8", "replace", newline="")
    try:
        columns = max(map(len, islice(filter(None, csv.reader(text)), 2)), default=0)
    except csv.Error as error:
        raise ValueError(str(error)) from None
    cells = columns * (content.count(b"\n") + content.count(b"\r"))
    if cells > 4 * len(content) + SPARE_CELLS:
        raise ValueError(f"its rows are shorter than the {columns:,} columns of its header")
    return pd.read_csv(io.BytesIO(content), **options)


def read_json(path: Path) -> Any:
    """Return plain data, without NaN and infinity. Raises OSError and ValueError."""
    try:
        return _check_texts(json.loads(read_text(path), parse_constant=_reject_constant))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_mapping(path: Path, advice: str) -> dict[str, Any]:
    """Return the mapping of a yaml or json file. Raises InputError, which ends with `advice`."""
    try:
        if path.suffix == ".json":
            content = read_json(path)
        else:
            content = _check_texts(parse_yaml(read_text(path, SETTINGS)))
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or one_line(error)[:200]
        raise InputError(f"{path} cannot be read: {reason}; {advice}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a mapping; {advice}")
    return content


class _PlainLoader(yaml.SafeLoader):
    """A loader of plain data: aliases, tags, duplicate keys and great depth are refused."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise ValueError(f"line {line} has an anchor or an alias; write the value out")
        if event.tag:
            raise ValueError(f"line {line} has a tag; give plain values")
        if self.depth > MAX_DEPTH:
            raise ValueError(f"line {line} is nested more than {MAX_DEPTH} deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.MappingNode):
            keys = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in keys:
                    line = key.start_mark.line + 1
                    raise ValueError(f"line {line} has the key {key.value[:60]!r} again")
                keys.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return node


def parse_yaml(text: str) -> Any:
    """Return the plain data of a text. Raises ValueError with a line on what is not plain."""
    try:
        return yaml.load(text, _PlainLoader)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        what = ", ".join(filter(None, (error.context, error.problem)))
        raise ValueError(f"not yaml: {what}{line}") from None
    except (yaml.YAMLError, RecursionError):  # a character that yaml does not allow
        raise ValueError("not yaml") from None


def texts(value: Any) -> Iterator[str]:
    """Yield every text in a nested value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts([*value.keys(), *value.values()])
    elif isinstance(value, list | tuple):
        for each in value:
            yield from texts(each)


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key, below `key`, and value of everything in a nested mapping."""
    if isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from leaves(each, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def is_safe_text(name: str) -> bool:
    """Return whether a name is printable and no formula; a sign alone, as of a date, is none."""
    return name.isprintable() and (len(name) == 1 or not name.startswith(FORMULA))


def _check_texts(content: Any) -> Any:
    for text in texts(content):
        if not text.replace("\n", "").isprintable():
            raise ValueError(f"{text[:60]!r} is not printable")
    return content


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def reject_symlinks(run: Path) -> None:
    """Raise InputError for a link, pipe or device in a run folder, which may be a link itself."""
    if not is_safe_text(run.name):
        raise InputError(f"run folder {run}: its name is a formula, or not printable; rename it")
    folders = [run]
    for folder in folders:
        for entry in _entries(folder):
            try:
                # Not is_file, which takes an entry that is gone for a link.
                mode = entry.stat(follow_symlinks=False).st_mode
            except OSError:  # renamed since by a process that trains another fold
                continue
            if not (is_folder := stat.S_ISDIR(mode)) and not stat.S_ISREG(mode):
                raise InputError(f"{entry.path}: is a link, or not a regular file; remove it")
            # A tracker's folder may have links; nothing of ours reads or writes there.
            if folder is run and is_folder and entry.name.startswith(("fold-", "test")):
                folders.append(Path(entry.path))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []  # what reads it says why
