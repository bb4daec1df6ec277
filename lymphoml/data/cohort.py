"""Patients with their label, clinical values and images, whatever the layout of the files."""

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.data.columns import Categorical, Column, DateOfBirth, declare_columns
from lymphoml.data.image_folders import bag_names, find_bags, outside_root
from lymphoml.data.mil_table import LAYOUT, read_bags
from lymphoml.data.problems import Place, Problem, shortened
from lymphoml.data.settings import DataConfig
from lymphoml.data.tables import cell_problems, duplicate_problems, name_columns, read_table


@dataclass(frozen=True, eq=False)
class Cohort:
    """Validated patients, sorted by id.

    `table` is indexed by id. Its `label` is 1 tumoral, 0 reactive, -1 unknown; records that share
    a `group` are suspected to be one person. The declared columns follow: numbers as written,
    categories, and for a birth date the age in years; NaN where `data.missing=impute`.
    `origin`, indexed alike, is how each record was written down, which must never reach a
    model: the `row` of the `table` it is from, a birth date's separator in `NAME format`, and in
    `NAME ambiguous` whether its day and month could be swapped.
    """

    name: str
    table: pd.DataFrame
    images: dict[str, tuple[Path, ...]]
    origin: pd.DataFrame
    schema: dict = field(default_factory=dict)  # of the model's input, to compare cohorts

    @property
    def labelled(self) -> "Cohort":
        return self.subset(self.table.index[self.table["label"] >= 0])

    @property
    def unlabelled(self) -> "Cohort":
        return self.subset(self.table.index[self.table["label"] < 0])

    def subset(self, ids: Collection[str]) -> "Cohort":
        """Return the patients of these ids, sorted by id; raises KeyError for an unknown one."""
        images = {patient: self.images[patient] for patient in sorted(set(ids))}
        ids = list(images)
        return replace(self, table=self.table.loc[ids], images=images, origin=self.origin.loc[ids])

    def fingerprint(self) -> str:
        """Return the SHA-256 of ids, labels and clinical values; images have a `content_key`."""
        # Group numbers follow from the rest, and change when another patient joins the cohort.
        return sha256(self.table.drop(columns="group").to_csv().encode()).hexdigest()


class LenientCohort(NamedTuple):
    """What can be read of a cohort, however much is wrong with the rest."""

    cohort: Cohort | None  # the patients without a problem; None without any
    images: dict[str, tuple[Path, ...]]  # of every bag found
    problems: list[Problem]  # none of them quotes a birth date


def load_cohort(data: DataConfig) -> Cohort:
    """Return the cohort that the configuration describes.

    Raises InputError with all that is wrong. Birth dates go no further than this function: ages and
    groups are made from them.
    """
    found = load_cohort_lenient(data)
    if found.problems or found.cohort is None:
        raise InputError(shortened(found.problems))
    return found.cohort


def load_cohort_lenient(data: DataConfig) -> LenientCohort:
    """Return what can be read of a cohort."""
    columns = declare_columns(data)
    files = _read_mil_table(data) if data.layout == LAYOUT else _read_tables(data, columns)
    readable = any(len(table) for table in files.tables.values())
    cohort = _assemble(data, columns, files) if readable else None
    return LenientCohort(cohort, files.images, files.problems)


# Files


@dataclass
class _Files:
    """The rows without a problem, every bag found, and all problems.

    `tables` is keyed by each table's number in `table_paths`. Where a table cannot be read, its
    bags are found all the same.
    """

    tables: dict[int, pd.DataFrame] = field(default_factory=dict)
    images: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def root_folder(data: DataConfig) -> Path:
    return Path(data.root).expanduser()  # no shell expands the ~ of data.root=~/cohort


def mil_path(data: DataConfig) -> Path:
    """Return the file of a MIL benchmark."""
    return root_folder(data) / data.table


def table_paths(data: DataConfig) -> list[tuple[Path, Path]]:
    """Return each table with the folder of its patients' folders."""
    root = root_folder(data)
    if data.layout == "kaggle":
        train, test = root / "trainset", root / "testset"
        return [(train / "trainset_true.csv", train), (test / "testset_data.csv", test)]
    return [(root / data.table, root / data.image_dir)]


def _read_tables(data: DataConfig, columns: Sequence[Column]) -> _Files:
    required = {data.id_column, *(column.column for column in columns)}
    # A cohort to predict may come without labels.
    label = {data.label_column}
    required, optional = (required, label) if data.layout == "table" else (required | label, set())
    root, files = root_folder(data), _Files()
    tables: dict[int, pd.DataFrame] = {}
    valid: dict[int, pd.Series] = {}
    for number, (path, folder) in enumerate(table_paths(data)):
        link = outside_root(path, root, Place(path))
        raw = [link] if link else read_table(path, required, optional)
        if isinstance(raw, list):
            places = {name: Place(folder / name) for name in bag_names(folder)}
            bags, lost = find_bags(folder, root, data.image_pattern, places)
            files.problems += raw + (lost if places else [])
        else:
            tables[number] = table = name_columns(raw, path, data, columns)
            places = dict(zip(table["id"], table["place"], strict=True))
            bags, lost = find_bags(folder, root, data.image_pattern, places)
            wrong = cell_problems(table, data, columns)
            files.problems += [problem for _, problem in wrong] + lost
            rows = [row for row, _ in wrong]
            valid[number] = table["id"].isin(bags.keys()) & ~table.index.isin(rows)
        files.images |= bags
    files.problems += duplicate_problems(tables)
    if not files.problems and not files.images:
        what = "no patient in any table"
        files.problems.append(Problem(Place(root), what, "add a row per patient"))
    seen: set[str] = set()
    for number, table in tables.items():
        first = ~table["id"].duplicated() & ~table["id"].isin(seen)
        seen |= set(table["id"])
        files.tables[number] = table[valid[number] & first]
    return files


def _read_mil_table(data: DataConfig) -> _Files:
    path = mil_path(data)
    if problem := outside_root(path, root_folder(data), Place(path)):
        return _Files(problems=[problem])
    bags = read_bags(path)
    if isinstance(bags, list):
        return _Files(problems=bags)
    return _Files({0: bags.table}, bags.images)


# From text to values


def _assemble(data: DataConfig, columns: Sequence[Column], files: _Files) -> Cohort:
    text = pd.concat(files.tables, names=["table", "row"])
    table = _parse(text, data.label_values, columns).sort_index()
    table.insert(1, "group", _suspected_persons(table, columns))
    schemas = {column.name: column.schema() for column in columns}
    return Cohort(
        name=data.name,
        table=table,
        images={patient: files.images[patient] for patient in table.index},
        origin=_origin(text, columns).loc[table.index],
        schema={name: schemas[name] for name in data.clinical},
    )


def _parse(text: pd.DataFrame, labels: dict, columns: Sequence[Column]) -> pd.DataFrame:
    text = text.set_index("id")
    label = text["label"].map(labels).astype("int64") if "label" in text else -1
    clinical = {column.name: column.parse(text[column.name]) for column in columns}
    return pd.DataFrame({"label": label, **clinical}, index=text.index)


def _origin(text: pd.DataFrame, columns: Sequence[Column]) -> pd.DataFrame:
    written = text.index.to_frame().set_index(text["id"])
    for column in columns:
        if isinstance(column, DateOfBirth):
            written[f"{column.name} format"] = column.separator(text[column.name]).to_list()
            written[f"{column.name} ambiguous"] = column.ambiguous(text[column.name]).to_list()
    return written


def _suspected_persons(table: pd.DataFrame, columns: Sequence[Column]) -> list[int]:
    """Number the persons: records of one birth date and sex are taken for one person.

    Needs a date of birth and a category named `sex`; a patient without both is a person of its own.
    Numbers follow the order of ids, so that they say nothing of the date.
    """
    births = [column.name for column in columns if isinstance(column, DateOfBirth)]
    sexes = [c.name for c in columns if isinstance(c, Categorical) and c.name == "sex"]
    numbers: dict[Hashable, int] = {}
    groups = []
    for patient, values in zip(table.index, table[births + sexes].to_numpy(object), strict=True):
        known = births and sexes and not pd.isna(values).any()
        groups.append(numbers.setdefault(tuple(values) if known else patient, len(numbers)))
    return groups
