"""A benchmark of multiple-instance learning as a cohort: `data.layout=mil_table`.

One file (`data.table` in `data.root`) has labels and feature vectors; a bag takes a patient's
place, an instance an image's. A .csv has the columns `bag`, `label`, optionally `instance`, and one
for each feature; a .npz the arrays `bag`, `label` and optionally `instance` of shape (n), and
`features` of shape (n, d). A label is 1 or +1 where the bag is positive, 0 or -1 where not.
docs/data.md converts the classic benchmarks.
"""

import csv
import io
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError, one_line, quoted
from lymphoml.core.untrusted import read_bytes
from lymphoml.data.cache import Images
from lymphoml.data.columns import NUMBER
from lymphoml.data.feature_files import read_arrays
from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.problems import Place, Problem
from lymphoml.data.settings import DataConfig
from lymphoml.data.tables import SAFE_ID

LAYOUT = "mil_table"
KEYS = ["bag", "label", "instance"]
LABELS = {"1": 1, "+1": 1, "0": 0, "-1": 0}
SAFE_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"  # no formula, no folder
LONGEST = 64  # characters of a number
LARGEST = 1 << 26  # bytes of a file, unpacked, and numbers in it
FORMATS = "see docs/data.md for the formats"


class Bags(NamedTuple):
    """`table` has a row a bag, `id` and `label`, indexed by the file's row where it begins."""

    table: pd.DataFrame
    images: dict[str, tuple[Path, ...]]  # of each bag its instances' names; no such files exist
    features: dict[str, np.ndarray]  # float32 (m, d)


class _Instances(NamedTuple):
    table: pd.DataFrame  # bag, label, instance: texts; indexed by the row in the file
    features: np.ndarray  # (n, d)


def read_bags(path: Path) -> Bags | list[Problem]:
    """Return the bags of a file, or a problem for each row that cannot be used."""
    try:
        found = _from_arrays(path) if path.suffix == ".npz" else _from_csv(path)
    except OSError as error:
        what = f"the table cannot be read ({error.strerror})"
        return [Problem(Place(path), what, "check data.root and data.table")]
    except Exception as error:  # whatever a foreign file makes the parsers say
        return [Problem(Place(path), one_line(error)[:200], FORMATS)]
    if isinstance(found, list):
        return found
    table, features = found
    with np.errstate(over="ignore"):
        features = features.astype(np.float32)
    if problems := [*_problems(path, table, features)]:
        return problems
    first = table.drop_duplicates("bag")
    labels = first["label"].map(LABELS).astype(str)
    rows = {str(bag): rows for bag, rows in table.groupby("bag", sort=False).indices.items()}
    return Bags(
        pd.DataFrame({"id": first["bag"], "label": labels}, index=first.index),
        {bag: tuple(path / bag / table["instance"].iloc[row] for row in rows[bag]) for bag in rows},
        {bag: features[rows[bag]] for bag in rows},
    )


def read_bag_features(path: Path, images: Images) -> tuple[FeatureStore, str]:
    """Return the feature vectors of these bags, named f1, f2, ..., and a digest of them."""
    bags = read_bags(path)
    if isinstance(bags, list):
        raise InputError(map(str, bags))
    kept = {bag: bags.features[bag] for bag in images}
    whole = sha256()
    for bag, values in kept.items():
        whole.update(f"{bag}\x1f{values.shape}\x1f".encode() + values.tobytes())
    width = next(iter(bags.features.values())).shape[1]
    names = [f"f{number}" for number in range(1, width + 1)]
    return FeatureStore(kept, names), whole.hexdigest()


def require_images(data: DataConfig, command: str) -> None:
    """Raise InputError where a cohort has no images, which `command` needs."""
    if data.layout == LAYOUT:
        raise InputError(f"data.layout={LAYOUT}: has no images, which {command} needs")


def _from_csv(path: Path) -> _Instances | list[Problem]:
    if path.suffix != ".csv":
        raise ValueError("must end in .csv or .npz")
    text = read_bytes(path, LARGEST).decode("utf-8-sig")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = [name.strip() for name in next(reader, [])]
    if missing := {"bag", "label"} - set(header):
        raise ValueError(f"row 1: no column {', '.join(sorted(missing))}")
    if len(set(header)) < len(header):
        raise ValueError("row 1: a column is duplicated")
    names = [name for name in header if name not in KEYS]
    problems, keys, numbers, lines = [], [], [], []
    for row in reader:
        line, cells = reader.line_num, [cell.strip() for cell in row]
        if not any(cells):
            continue
        named = dict(zip(header, cells, strict=False))
        wrong = next((each for each in names if not _is_number(named.get(each, ""))), None)
        if len(cells) != len(header):
            what, shown = f"{len(cells)} cells where the header has {len(header)}", ""
        elif wrong is not None:
            what, shown = "not a number", quoted(named[wrong], 40)
        else:
            keys.append([named["bag"], named["label"], named.get("instance", str(line))])
            numbers.append([float(named[name]) for name in names])
            lines.append(line)
            continue
        problems.append(Problem(Place(path, f"row {line}"), what, FORMATS, shown))
    if problems:
        return problems
    table = pd.DataFrame(keys, columns=KEYS, index=pd.Index(lines, dtype="int64"), dtype="str")
    return _Instances(table, np.array(numbers).reshape(len(lines), len(names)))


def _from_arrays(path: Path) -> _Instances:
    arrays = read_arrays(path, LARGEST)
    features = arrays["features"]
    if features.ndim != 2 or features.dtype.kind not in "biuf":
        raise ValueError("features are not numbers of shape (n, d)")
    rows = pd.RangeIndex(1, len(features) + 1)
    given = {name: arrays[name].astype(str) for name in KEYS if name in arrays}
    table = pd.DataFrame({"instance": rows.astype(str)} | given, index=rows, dtype="str")
    return _Instances(table[KEYS], features)


def _is_number(cell: str) -> bool:
    return len(cell) <= LONGEST and re.fullmatch(NUMBER, cell) is not None


def _problems(path: Path, table: pd.DataFrame, features: np.ndarray) -> Iterator[Problem]:
    if not features.size:
        yield Problem(
            Place(path), f"{len(table)} instances of {features.shape[1]} features", FORMATS
        )
        return
    label = table["label"].map(LABELS)
    for invalid, column, what in (
        (~table["bag"].str.fullmatch(SAFE_ID), "bag", "a bag's name has other than a-z 0-9 _ -"),
        (~table["instance"].str.fullmatch(SAFE_NAME), "instance", "an instance has a refused name"),
        (label.isna(), "label", f"the label is none of {', '.join(LABELS)}"),
        (label.groupby(table["bag"]).transform("nunique") > 1, "bag", "a bag has both labels"),
        (table.duplicated(["bag", "instance"]), "instance", "an instance is duplicated in its bag"),
        (~np.isfinite(features).all(axis=1), "instance", "a number is not finite"),
    ):
        for row, cell in table.loc[invalid.astype(bool), column].items():
            yield Problem(Place(path, f"row {row}"), what, FORMATS, quoted(cell, 40))
