"""Patients with their label, clinical values and images, whatever the layout they came from."""

import os
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.data.columns import Categorical, Column, DateOfBirth, declare_columns
from lymphoml.data.image_folders import assert_inside_root, bag_names, find_bags
from lymphoml.data.mil_table import LAYOUT, read_bags
from lymphoml.data.tables import (
    duplicate_problems,
    name_columns,
    read_table,
    table_problems,
    table_schema,
)

# Tables and image folders of a cohort, read as they lie; every problem found is a line.


@dataclass
class Sources:
    """The rows without fault, every bag found, and all problems.

    `tables` is keyed by each table's place in `table_paths`. A table that cannot be read has none
    of its bags' rows, yet its bags are found.
    """

    tables: dict[int, pd.DataFrame] = field(default_factory=dict)
    images: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def root_folder(data: dict) -> Path:
    return Path(os.path.expanduser(data["root"]))  # no shell expands the ~ of data.root=~/cohort


def mil_path(data: dict) -> Path:
    """The file of a benchmark set."""
    return root_folder(data) / data["table"]


def table_paths(data: dict) -> list[tuple[Path, Path]]:
    """Each table with the folder that holds its patients' folders."""
    root = root_folder(data)
    if data["layout"] == "kaggle":
        train, test = root / "trainset", root / "testset"
        return [(train / "trainset_true.csv", train), (test / "testset_data.csv", test)]
    return [(root / data["table"], root / data["image_dir"])]


def read_sources(data: dict, columns: Sequence[Column]) -> Sources:
    """Every table and folder."""
    if data["layout"] == LAYOUT:
        return _read_mil_table(data)
    headings = {"id": data["id_column"], "label": data["label_column"]}
    headings |= {column.name: column.column for column in columns}
    # A cohort to predict may come without labels.
    optional = {data["label_column"]} if data["layout"] == "table" else set()
    schema = table_schema(data, columns)
    root, found = root_folder(data), Sources()
    tables: dict[int, pd.DataFrame] = {}
    sound: dict[int, pd.Series] = {}
    for number, (path, folder) in enumerate(table_paths(data)):
        try:
            assert_inside_root(path, root)
            raw = read_table(path, {*headings.values()} - optional, optional)
        except InputError as error:
            found.problems += error.problems
            places = {name: str(folder / name) for name in bag_names(folder)}
            bags, lost = find_bags(folder, root, data["image_pattern"], places)
            found.images |= bags
            found.problems += lost if places else []
            continue
        table = name_columns(raw, path, headings, columns)
        places = dict(zip(table["id"], table["place"], strict=True))
        bags, lost = find_bags(folder, root, data["image_pattern"], places)
        faults = list(table_problems(table, schema, headings))
        found.problems += [*(text for _, text in faults), *lost]
        found.images |= bags
        tables[number] = table
        faulty = table.index.isin([row for row, _ in faults])
        sound[number] = table["id"].isin(bags.keys()) & ~faulty
    found.problems += duplicate_problems(tables.values())
    if not found.problems and not found.images:
        found.problems.append(f"{root}: no patient in any table; add a row per patient")
    seen: set[str] = set()
    for number, table in tables.items():
        first = ~table["id"].duplicated() & ~table["id"].isin(seen)
        seen |= set(table["id"])
        found.tables[number] = table[sound[number] & first]
    return found


def _read_mil_table(data: dict) -> Sources:
    root, path = root_folder(data), mil_path(data)
    try:
        assert_inside_root(path, root)
        bags = read_bags(path)
    except InputError as error:
        return Sources(problems=list(error.problems))
    return Sources({0: bags.table}, bags.images)


SHOWN = 20  # problems; a table of another format has thousands


@dataclass(frozen=True, eq=False)
class Cohort:
    """Validated patients, sorted by id.

    `table` is indexed by id. Its `label` is 1 tumoral, 0 reactive, -1 unknown; records that share
    a `group` are suspected to be one person. The declared columns follow: numbers as written,
    categories, and for a birth date the age in years; nan where `data.missing=impute` lets it.
    `origin`, indexed alike, tells how each record was written down, which must never reach a
    model: the `row` of the `table` it stood in, a birth date's separator in `NAME format`, and in
    `NAME ambiguous` whether its day and month could be swapped.
    """

    name: str
    table: pd.DataFrame
    images: dict[str, tuple[Path, ...]]
    origin: pd.DataFrame
    schema: dict = field(default_factory=dict)  # of what reaches the model, to compare cohorts

    @property
    def labelled(self) -> "Cohort":
        return self.subset(self.table.index[self.table["label"] >= 0])

    @property
    def unlabelled(self) -> "Cohort":
        return self.subset(self.table.index[self.table["label"] < 0])

    def subset(self, ids: Collection[str]) -> "Cohort":
        """The patients named, still sorted by id; raises KeyError for one who is not here."""
        images = {patient: self.images[patient] for patient in sorted(set(ids))}
        ids = list(images)
        return replace(self, table=self.table.loc[ids], images=images, origin=self.origin.loc[ids])

    def fingerprint(self) -> str:
        """SHA-256 of ids, labels and clinical values; `read_images` gives the images'."""
        # Group numbers follow from the rest, and shift when somebody else joins the cohort.
        return sha256(self.table.drop(columns="group").to_csv().encode()).hexdigest()


class LenientCohort(NamedTuple):
    """What can be read of a cohort, however much is wrong with the rest."""

    cohort: Cohort | None  # the patients without fault; None without any
    images: dict[str, tuple[Path, ...]]  # of every bag found
    problems: list[str]  # all, in which no cell of a birth date is quoted


def load_cohort(data: dict) -> Cohort:
    """The cohort that a configuration's `data` describes; raises InputError for all that is wrong.

    Birth dates go no further than this function: ages and groups are made from them.
    """
    columns = declare_columns(data)
    sources = read_sources(data, columns)
    if sources.problems:
        rest = len(sources.problems) - SHOWN
        more = [f"... and {rest} more problems"] * (rest > 0)
        raise InputError(sources.problems[:SHOWN] + more)
    return _assemble(data, columns, sources)


def load_cohort_lenient(data: dict) -> LenientCohort:
    """The same as far as it goes; raises InputError only for settings that mean nothing."""
    columns = declare_columns(data)
    sources = read_sources(data, columns)
    readable = any(len(table) for table in sources.tables.values())
    cohort = _assemble(data, columns, sources) if readable else None
    return LenientCohort(cohort, sources.images, sources.problems)


def _assemble(data: dict, columns: Sequence[Column], sources: Sources) -> Cohort:
    text = pd.concat(sources.tables, names=["table", "row"])
    table = _parse(text, data["label_values"], columns).sort_index()
    table.insert(1, "group", _suspected_persons(table, columns))
    schemas = {column.name: column.schema() for column in columns}
    return Cohort(
        name=data["name"],
        table=table,
        images={patient: sources.images[patient] for patient in table.index},
        origin=_origin(text, columns).loc[table.index],
        schema={name: schemas[name] for name in data["clinical"]},
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
    """Numbers the persons: one birth date and sex under two ids are taken for one person.

    Needs a date of birth and a category named `sex`; a patient without both stands alone.
    Numbers follow the order of ids, so that they say nothing of the date.
    """
    births = [column.name for column in columns if isinstance(column, DateOfBirth)]
    sexes = [c.name for c in columns if isinstance(c, Categorical) and c.name == "sex"]
    numbers: dict[Hashable, int] = {}
    groups = []
    for patient, values in zip(table.index, table[births + sexes].to_numpy(object), strict=True):
        told = births and sexes and not pd.isna(values).any()
        groups.append(numbers.setdefault(tuple(values) if told else patient, len(numbers)))
    return groups
