"""A benchmark set of multiple-instance learning as a cohort: `data.layout=mil_table`.

One file (`data.table` below `data.root`) holds labels and rows of features; a bag stands where a
patient does, an instance where an image.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lymphoml.data.mil_formats import Instance, parse
from lymphoml.data.mil_matlab import parse_matlab
from lymphoml.errors import InputError
from lymphoml.foreign import read_bytes

LAYOUT = "mil_table"
SUFFIXES = (".data", ".svm", ".csv", ".mat")
LARGEST = 1 << 26  # bytes of a file, unpacked, and numbers in it, written out


class Bags(NamedTuple):
    """`table` has a row a bag, `id` and `label`, indexed by the file's row where it begins."""

    table: pd.DataFrame
    images: dict[str, tuple[Path, ...]]  # of each bag its instances' names; no such files exist
    rows: dict[str, np.ndarray]  # float32 (m, d)


def read_bags(path: Path) -> Bags:
    """Raises InputError with a line for each row that cannot be used."""
    instances, problems = _read(path)
    if not problems:
        problems = list(_problems(instances))
    if problems:
        raise InputError(f"{path}, {problem}" for problem in problems)
    features = _features(instances, path)
    whole = pd.DataFrame(instances, columns=Instance._fields)[["row", "bag", "name", "label"]]
    first = whole.drop_duplicates("bag")
    table = pd.DataFrame(
        {"id": first["bag"].to_numpy(), "label": first["label"].astype(str).to_numpy()},
        index=pd.Index(first["row"], dtype="int64"),
    )
    groups = {str(bag): group for bag, group in whole.groupby("bag", sort=False).indices.items()}
    images = {
        bag: tuple(path / bag / name for name in whole["name"].iloc[group])
        for bag, group in groups.items()
    }
    return Bags(table, images, {bag: features[group] for bag, group in groups.items()})


def refuse_bags(data: Mapping[str, object], command: str) -> None:
    """Raises InputError where a cohort has no images, at which `command` looks."""
    if data["layout"] == LAYOUT:
        raise InputError(f"data.layout={LAYOUT}: has no images, which {command} looks at")


def _read(path: Path) -> tuple[list[Instance], list[str]]:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: allowed are files that end in {', '.join(SUFFIXES)}")
    try:
        content = read_bytes(path, LARGEST)
        if path.suffix == ".mat":
            return list(parse_matlab(content, LARGEST)), []
        parsed = list(parse(content.decode("utf-8-sig"), path.suffix))
    except OSError as error:
        raise InputError(
            f"{path}: the table cannot be read ({error.strerror}); check data.root and data.table"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text in UTF-8; docs/data.md has the formats") from None
    except ValueError as error:
        raise InputError(f"{path}: {error}; docs/data.md has the formats") from None
    return (
        [each for each in parsed if isinstance(each, Instance)],
        [each for each in parsed if isinstance(each, str)],
    )


def _problems(instances: list[Instance]) -> Iterator[str]:
    if not instances:
        yield "row 1: no instance; docs/data.md has the formats"
    first: dict[str, Instance] = {}
    seen: dict[tuple[str, str], int] = {}
    for each in instances:
        opener = first.setdefault(each.bag, each)
        if each.label != opener.label:
            yield f"row {each.row}: bag {each.bag} is of the other class in row {opener.row}"
        before = seen.setdefault((each.bag, each.name), each.row)
        if before != each.row:
            yield f"row {each.row}: instance {each.name} of bag {each.bag} stands in row {before}"
    for one, other in pairwise(instances):
        dense = isinstance(one.places, range) and isinstance(other.places, range)
        if dense and len(one.places) != len(other.places):
            there = f"{len(one.places)} in row {one.row}"
            yield f"row {other.row}: {len(other.places)} numbers, {there}"


def _features(instances: list[Instance], path: Path) -> np.ndarray:
    width = max(max(each.places, default=-1) for each in instances) + 1
    if width < 1 or width * len(instances) > LARGEST:
        raise InputError(
            f"{path}: {len(instances):,} instances of {width:,} features; allowed are 1 or more "
            f"features, and {LARGEST:,} numbers in all"
        )
    features = np.zeros((len(instances), width), np.float32)
    with np.errstate(over="ignore"):
        for place, each in enumerate(instances):
            features[place, list(each.places)] = each.values
    wrong = ~np.isfinite(features).all(axis=1)
    if wrong.any():
        rows = [instances[place].row for place in np.flatnonzero(wrong)]
        raise InputError(f"{path}, row {row}: a number that is not finite" for row in rows)
    return features
