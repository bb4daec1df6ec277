"""A benchmark of multiple-instance learning as a cohort: `data.layout=mil_table`.

A bag takes a patient's place, an instance an image's. docs/data.md has the formats of the file,
`data.table` in `data.root`, and converts the classic benchmarks.
"""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError, one_line, quoted
from lymphoml.core.untrusted import is_safe_text
from lymphoml.data.cache import Images
from lymphoml.data.columns import SAFE_ID, is_number
from lymphoml.data.feature_files import is_no_feature, read_arrays
from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.problems import DataError, Place, Problem
from lymphoml.data.settings import DataConfig
from lymphoml.data.tables import read_rows

LAYOUT = "mil_table"
KEYS = ["bag", "label", "instance"]
LABELS = {"1": 1, "+1": 1, "0": 0, "-1": 0}
SAFE_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"  # no formula, no folder
LARGEST = 1 << 26  # bytes of a file, unpacked, and numbers in it
FORMATS = "see docs/data.md for the formats"


class Bags(NamedTuple):
    """`table` has a row a bag, `id` and `label`, indexed by the file's row where it begins."""

    table: pd.DataFrame
    images: dict[str, tuple[Path, ...]]  # of each bag its instances' names; no such files exist
    features: dict[str, np.ndarray]  # float32 (m, d)
    names: list[str]  # d, the columns of a .csv; f1, f2, ... of a .npz


def read_bags(path: Path) -> Bags:
    """Return the bags of a file. Raises DataError with each row that cannot be used."""
    try:
        read = _from_arrays if path.suffix == ".npz" else _from_csv
        table, features, names = read(path)
        with np.errstate(over="ignore"):
            features = features.astype(np.float32)
    except DataError:
        raise
    except OSError as error:
        what = f"the table cannot be read ({error.strerror})"
        raise DataError(Problem(Place(path), what, "check data.root and data.table")) from None
    except Exception as error:  # whatever a foreign file makes the parsers say
        raise DataError(Problem(Place(path), one_line(error)[:200], FORMATS)) from None
    if problems := [*_problems(path, table, features)]:
        raise DataError(*problems)
    first = table.drop_duplicates("bag")
    labels = first["label"].map(LABELS).astype(str)
    rows = {str(bag): rows for bag, rows in table.groupby("bag", sort=False).indices.items()}
    return Bags(
        pd.DataFrame({"id": first["bag"], "label": labels}, index=first.index),
        {bag: tuple(path / bag / table["instance"].iloc[row] for row in rows[bag]) for bag in rows},
        {bag: features[rows[bag]] for bag in rows},
        names,
    )


def read_bag_features(path: Path, images: Images) -> tuple[FeatureStore, str]:
    """Return the feature vectors of these bags, and a digest of them."""
    bags = read_bags(path)
    kept = {bag: bags.features[bag] for bag in images}
    whole = sha256()
    for bag, values in kept.items():
        whole.update(f"{bag}\x1f{values.shape}\x1f".encode() + values.tobytes())
    return FeatureStore(kept, bags.names), whole.hexdigest()


def require_images(data: DataConfig, command: str) -> None:
    """Raise InputError where a cohort has no images, which `command` needs."""
    if data.layout == LAYOUT:
        raise InputError(f"data.layout={LAYOUT}: has no images, which {command} needs")


def _from_csv(path: Path) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Return bag, label and instance as texts, indexed by row; the features (n, d), their names."""
    if path.suffix != ".csv":
        raise ValueError("must end in .csv or .npz")
    rows = read_rows(path, {"bag", "label"}, {"instance"}, FORMATS)
    if len(set(rows.header)) < len(rows.header):
        raise ValueError("row 1: a column is duplicated")
    if wrong := [name for name in rows.header if name != "label" and is_no_feature(name)]:
        raise ValueError(f"row 1: column {quoted(wrong[0], 60)}: is no feature; leave it out")
    if unsafe := [name for name in rows.header if not is_safe_text(name)]:
        raise ValueError(f"row 1: column {quoted(unsafe[0], 60)} is a formula, or cannot be seen")
    features = [place for place, name in enumerate(rows.header) if name not in KEYS]
    numbers, problems = [], []
    for line, cells in rows.cells.items():
        wrong = [cells[place] for place in features if not is_number(cells[place])]
        if wrong:
            shown = quoted(wrong[0], 40)
            problems.append(Problem(Place(path, f"row {line}"), "not a number", FORMATS, shown))
        else:
            numbers.append([float(cells[place]) for place in features])
    if problems:
        raise DataError(*problems)
    table = pd.DataFrame({key: rows.column(key) for key in KEYS if key in rows.header})
    if "instance" not in table:
        table["instance"] = table.index.astype(str)
    names = [rows.header[place] for place in features]
    return table, np.array(numbers).reshape(len(table), len(features)), names


def _from_arrays(path: Path) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    arrays = read_arrays(path, LARGEST)
    features = arrays["features"]
    if features.ndim != 2 or features.dtype.kind not in "biuf":
        raise ValueError("features are not numbers of shape (n, d)")
    rows = pd.RangeIndex(1, len(features) + 1)
    given = {name: arrays[name].astype(str) for name in KEYS if name in arrays}
    table = pd.DataFrame({"instance": rows.astype(str)} | given, index=rows, dtype="str")
    return table[KEYS], features, [f"f{number + 1}" for number in range(features.shape[1])]


def _problems(path: Path, table: pd.DataFrame, features: np.ndarray) -> Iterator[Problem]:
    if not features.size:
        what = f"{len(table)} instances of {features.shape[1]} features"
        yield Problem(Place(path), what, FORMATS)
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
