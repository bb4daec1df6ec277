"""Tables and image folders of a cohort, read as they lie; every problem found is a line."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lymphoml.data.columns import Column
from lymphoml.data.folders import bag_names, find_bags, refuse_stray
from lymphoml.data.mil_table import LAYOUT, read_bags
from lymphoml.data.tables import read_table
from lymphoml.data.validation import duplicate_problems, name_columns, table_problems, table_schema
from lymphoml.errors import InputError


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
            refuse_stray(path, root)
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
        refuse_stray(path, root)
        bags = read_bags(path)
    except InputError as error:
        return Sources(problems=list(error.problems))
    return Sources({0: bags.table}, bags.images)
