"""A benchmark set of multiple-instance learning as a cohort: `data.layout=mil_table`.

One file (`data.table` below `data.root`) holds labels and rows of features; a bag stands where a
patient does, an instance where an image.
"""

import csv
import io
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.io import loadmat, whosmat
from scipy.sparse import issparse

from lymphoml.core.errors import InputError, quoted
from lymphoml.core.untrusted import read_bytes
from lymphoml.data.cache import Images
from lymphoml.data.columns import NUMBER
from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.tables import SAFE_ID

# The text formats in which benchmark sets of multiple-instance learning are handed around.
#
#     .data   UCI's MUSK:             bag,instance,number,...,class.   as 1. or 0., with a full stop
#     .svm    Andrews et al. 2002:    instance:bag:class index:value ...   indices from 1; absent is 0
#     .csv    with a header: bag, label, perhaps instance; every other column is a feature
#
# A class is 1 or +1 where the bag is positive, 0 or -1 where not, and stands with each instance.
#

CLASSES = {"1": 1, "+1": 1, "0": 0, "-1": 0}
SAFE_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"  # no formula, no folder
LONGEST = 64  # characters of a number


class Instance(NamedTuple):
    row: int  # of the file, as an editor counts
    bag: str
    name: str  # within its bag
    label: int  # of the bag: 1 or 0
    places: Sequence[int]  # of `values` among the features, from 0; the others are 0
    values: np.ndarray


def parse(text: str, suffix: str) -> Iterator[Instance | str]:
    """Each instance in turn, or a line on what is wrong with its row."""
    lines = enumerate(text.splitlines(), start=1)
    told = ((row, line) for row, line in lines if line.strip() and not line.startswith("#"))
    read: Callable[[int, str], Instance] = _data if suffix == ".data" else _svm
    if suffix == ".csv":
        row, header = next(told, (1, ""))
        try:
            read = _Csv(header)
        except (ValueError, csv.Error) as error:
            yield f"row {row}: {error}"
            return
    for row, line in told:
        try:
            yield read(row, line)
        except (ValueError, csv.Error) as error:
            yield f"row {row}: {error}"


class _Csv:
    def __init__(self, header: str):
        self.names = [name.strip() for name in next(csv.reader([header]), [])]
        for name in ("bag", "label"):
            if name not in self.names:
                raise ValueError(f"the header has no column called {name}")
        if len(set(self.names)) < len(self.names):
            raise ValueError("two columns of the header have one name")

    def __call__(self, row: int, line: str) -> Instance:
        cells = next(csv.reader([line]))
        if len(cells) != len(self.names):
            raise ValueError(f"{len(cells)} cells where the header has {len(self.names)}")
        named = dict(zip(self.names, cells, strict=True))
        bag, label, name = named.pop("bag"), named.pop("label"), named.pop("instance", str(row))
        return _dense(row, bag, name, label, named.values())


def _data(row: int, line: str) -> Instance:
    cells = line.split(",")
    if len(cells) < 4:
        raise ValueError(f"{len(cells)} cells; write bag,instance,number,...,class")
    bag, name, *values, label = cells
    return _dense(row, bag, name, label, values)


def _dense(row: int, bag: str, name: str, label: str, cells: Iterable[str]) -> Instance:
    values = np.array([_number(cell) for cell in cells])
    return _instance(row, bag, name, label, range(len(values)), values)


def _svm(row: int, line: str) -> Instance:
    head, *pairs = line.split()
    if head.count(":") != 2:
        raise ValueError(f"{quoted(head, 40)} is no instance:bag:class")
    name, bag, label = head.split(":")
    found: dict[int, float] = {}
    for pair in pairs:
        index, _, value = pair.partition(":")
        place = int(index) - 1 if re.fullmatch("[0-9]{1,9}", index) else -1
        if place < 0 or place in found:
            raise ValueError(f"{quoted(pair, 40)} is no index:value, or its index stands twice")
        found[place] = _number(value)
    return _instance(row, bag, name, label, list(found), np.array(list(found.values())))


def _instance(
    row: int, bag: str, name: str, label: str, places: Sequence[int], values: np.ndarray
) -> Instance:
    bag, name, label = bag.strip(), name.strip(), label.strip().removesuffix(".")
    if not re.fullmatch(SAFE_ID, bag):
        raise ValueError(f"bag {quoted(bag, 40)}: write letters, digits, _ and - only")
    if not re.fullmatch(SAFE_NAME, name):
        raise ValueError(f"instance {quoted(name, 40)}: write letters, digits, _ . + and - only")
    if label not in CLASSES:
        raise ValueError(f"class {quoted(label, 40)} is none of {', '.join(CLASSES)}")
    return Instance(row, bag, name, CLASSES[label], places, values)


def _number(cell: str) -> float:
    cell = cell.strip()
    if len(cell) > LONGEST or not re.fullmatch(NUMBER, cell):
        raise ValueError(f"{quoted(cell, 40)} is not a number")
    return float(cell)


# MATLAB files of benchmark sets, as Andrews et al. 2002 hand them out: fox_100x100_matlab.mat.
#
# `features` (n, d), often sparse, `bag_ids` (n) whole numbers, `labels` (n) of 1 and -1 or 0, an
# instance each. MATLAB 5 to 7.2; later ones are HDF5.
#

KEYS = ("features", "bag_ids", "labels")
REAL = ("double", "single", "logical", "sparse", "int8", "int16", "int32", "int64", "uint8",
        "uint16", "uint32", "uint64")  # fmt: skip
HEADER, TAG = 128, 8  # bytes of the file's header, and before each variable
COMPRESSED = 15  # a variable's type: zlib


def parse_matlab(content: bytes, most: int) -> Iterator[Instance]:
    """Each instance, its row counted from 1. `most` bounds bytes, unpacked, and numbers, dense.

    Raises ValueError with what is wrong.
    """
    features, bags, labels = _variables(content, most)
    if bags.shape != labels.shape or len(features) != len(bags):
        raise ValueError(
            f"features of {len(features)} instances, {len(bags)} bag_ids and {len(labels)} labels"
        )
    for row, (values, bag, label) in enumerate(zip(features, bags, labels, strict=True), start=1):
        if not (float(bag).is_integer() and 0 <= bag < 1e15):
            raise ValueError(f"instance {row}: bag_ids must be whole numbers of 0 or more")
        if label not in (1, 0, -1):
            raise ValueError(f"instance {row}: its label is none of 1, 0 and -1")
        yield Instance(row, str(int(bag)), str(row), int(label == 1), range(len(values)), values)


def _variables(content: bytes, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    _check_size(content, most)
    try:
        listed = [each for each in whosmat(io.BytesIO(content)) if each[0] in KEYS]
    except Exception:  # whatever a foreign file makes the parser say
        raise ValueError("no MATLAB file of version 5 to 7.2") from None
    if lacking := sorted(set(KEYS) - {name for name, *_ in listed}):
        raise ValueError(f"has no variable {', '.join(lacking)}")
    for name, shape, kind in listed:  # cells in cells would end in a stack overflow
        if kind not in REAL or len(shape) != 2 or math.prod(map(int, shape)) > most:
            raise ValueError(f"{name} is no matrix of at most {most:,} real numbers")
    try:
        found: dict[str, Any] = loadmat(io.BytesIO(content), variable_names=KEYS)
        features, bags, labels = (_mil_matlab_dense(found[key]) for key in KEYS)
    except Exception:
        raise ValueError("a variable cannot be read") from None
    return features, bags.reshape(-1), labels.reshape(-1)


def _mil_matlab_dense(array: Any) -> np.ndarray:
    if issparse(array):
        array.check_format(full_check=True)  # an index beyond the shape would be written to
        array = array.toarray()
    if array.dtype.kind not in "biuf":
        raise ValueError
    return array.astype(float)


def _check_size(content: bytes, most: int) -> None:
    """Unpack each variable up to the bound, before anybody unpacks it whole."""
    place, room = HEADER, most
    while place + TAG <= len(content) and room > 0:
        kind, size = np.frombuffer(content, "<u4", 2, place).tolist()
        if kind == COMPRESSED:
            unpacker = zlib.decompressobj()
            try:
                packed = content[place + TAG : place + TAG + size]
                while packed and room > 0:
                    room -= len(unpacker.decompress(packed, 1 << 20))
                    packed = unpacker.unconsumed_tail
            except zlib.error:
                raise ValueError("a variable cannot be unpacked") from None
        place += TAG + size
    if room <= 0:
        raise ValueError(f"larger than {most >> 20} MiB when unpacked")


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


# The rows of a benchmark set's bags, as the store that a model's bags come from.


def read_bag_rows(path: Path, images: Images) -> tuple[FeatureStore, str]:
    """The rows of these bags, and a digest of them."""
    rows = read_bags(path).rows
    kept = {bag: rows[bag] for bag in images}
    whole = sha256()
    for bag, values in kept.items():
        whole.update(f"{bag}\x1f{values.shape}\x1f".encode() + values.tobytes())
    width = next(iter(rows.values())).shape[1]
    return FeatureStore(kept, [f"f{number}" for number in range(1, width + 1)]), whole.hexdigest()
