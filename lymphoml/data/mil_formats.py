"""The text formats in which benchmark sets of multiple-instance learning are handed around.

    .data   UCI's MUSK:             bag,instance,number,...,class.   as 1. or 0., with a full stop
    .svm    Andrews et al. 2002:    instance:bag:class index:value ...   indices from 1; absent is 0
    .csv    with a header: bag, label, perhaps instance; every other column is a feature

A class is 1 or +1 where the bag is positive, 0 or -1 where not, and stands with each instance.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lymphoml.data.columns import NUMBER
from lymphoml.data.validation import SAFE_ID
from lymphoml.errors import quoted

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
