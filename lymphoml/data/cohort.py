"""Patients with their label, clinical values and images, whatever the layout of the files."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.data import image_folders
from lymphoml.data.column_kinds import FEMALE, MALE
from lymphoml.data.columns import PERSON, SITE, birth_date, input_schema, read_cell, separator_of
from lymphoml.data.image_folders import Bags, Paths, Unused, check_inside_root, root_folder
from lymphoml.data.mil_table import LAYOUT, read_bags
from lymphoml.data.problems import DataError, Place, Problem, shortened
from lymphoml.data.settings import DataConfig
from lymphoml.data.tables import cell_problems, duplicate_problems, read_table

OLD = 65  # years


@dataclass(frozen=True, eq=False)
class Cohort:
    """Validated patients, sorted by id.

    `table` is indexed by id. Its `label` is 1 tumoral, 0 reactive, -1 unknown; records that share
    a `group` are of one person, by `data.person_rule`. The declared columns follow: numbers as
    written, categories, and for a birth date the age in years; NaN where `data.missing=impute`.
    `origin`, indexed alike, is how each record was written down, which must never reach a
    model: the `row` of the `table` it is from, a birth date's separator in `NAME format`, and in
    `NAME ambiguous` whether its day and month could be swapped; the `person` in a text that only
    that person's records have, NaN where it is unknown, and the `site` where that is declared.
    `unused` counts by why what is not used in each patient's folder, under "" what is beside them.
    """

    name: str
    table: pd.DataFrame
    images: dict[str, Paths]
    origin: pd.DataFrame
    schema: dict = field(default_factory=dict)  # of the model's input, to compare cohorts
    declared: tuple[str, ...] = ()  # columns of origin that the data settings name
    unused: dict[str, Unused] = field(default_factory=dict)

    @property
    def labelled(self) -> "Cohort":
        return self.subset(self.table.index[self.table["label"] >= 0])

    @property
    def unlabelled(self) -> "Cohort":
        return self.subset(self.table.index[self.table["label"] < 0])

    @property
    def in_table_order(self) -> list[str]:
        """The ids as the rows of the tables come."""
        return list(self.origin.sort_values(["table", "row"]).index)

    def subset(self, ids: Collection[str]) -> "Cohort":
        """Return the patients of these ids, sorted by id; raises KeyError for an unknown one."""
        images = {patient: self.images[patient] for patient in sorted(set(ids))}
        ids = list(images)
        unused = {key: self.unused[key] for key in ("", *ids) if key in self.unused}
        table, origin = self.table.loc[ids], self.origin.loc[ids]
        return replace(self, table=table, images=images, origin=origin, unused=unused)

    @property
    def unused_files(self) -> dict[str, int]:
        """Their number by why they are not used."""
        return dict(sum(self.unused.values(), Unused()))

    def print_unused(self) -> None:
        if unused := self.unused_files:
            used = sum(map(len, self.images.values()))
            listed = image_folders.format_unused(unused)
            print(f"{used:,} images are used; not used: {listed}", flush=True)

    def fingerprint(self) -> str:
        """Return the SHA-256 of ids, labels and clinical values; images have a `content_key`."""
        # Group numbers follow from the rest, and change when another patient joins the cohort.
        columns = [self.table.drop(columns="group"), self.origin[[*self.declared]]]
        return sha256(pd.concat(columns, axis=1).to_csv().encode()).hexdigest()


def load_cohort(data: DataConfig) -> Cohort:
    """Return the configured cohort. Raises InputError with all that is wrong."""
    cohort, bags = load_cohort_lenient(data)
    if bags.problems or cohort is None:
        raise InputError(shortened(bags.problems))
    return cohort


def load_cohort_lenient(data: DataConfig) -> tuple[Cohort | None, Bags]:
    """Return the patients without a problem, if any; all bags; problems, without birth dates."""
    try:
        text, bags = (_read_bags if data.layout == LAYOUT else _read_tables)(data)
    except DataError as error:
        return None, Bags({}, {}, list(error.found))
    return _assemble(text, bags, data) if len(text) else None, bags


def table_paths(data: DataConfig) -> list[tuple[Path, Path]]:
    """Return each table with the folder of its patients' folders."""
    root = root_folder(data)
    if data.layout == "kaggle":
        train, test = root / "trainset", root / "testset"
        return [(train / "trainset_true.csv", train), (test / "testset_data.csv", test)]
    return [(root / data.table, root / data.image_dir)]


def _read_bags(data: DataConfig) -> tuple[pd.DataFrame, Bags]:
    path = root_folder(data) / data.table
    check_inside_root(path, data, Place(path))
    bags = read_bags(path)
    return pd.concat({0: bags.table}, names=["table", "row"]), Bags(bags.images, {}, [])


def _read_tables(data: DataConfig) -> tuple[pd.DataFrame, Bags]:
    """Return the rows without a problem by table and row, every bag found, and all problems."""
    tables: dict[int, pd.DataFrame] = {}
    has_bag: dict[int, pd.Series] = {}
    found, lost = Bags({}, {"": Unused()}, []), []
    for number, (path, folder) in enumerate(table_paths(data)):
        places = None
        try:
            check_inside_root(path, data, Place(path))
            table = tables[number] = read_table(path, data)
            places = dict(zip(table["id"], table["place"], strict=True))
        except DataError as error:
            found.problems.extend(error.found)
        bags = image_folders.find_bags(folder, data, places)
        beside = {"": found.unused[""] + bags.unused.get("", Unused())}
        found.unused.update(bags.unused | beside)
        found.images.update(bags.images)
        lost += bags.problems
        if places is not None:
            has_bag[number] = table["id"].isin(bags.images.keys())
    if not tables:
        found.problems.extend(lost)
        return pd.DataFrame(), found
    text = pd.concat(tables, names=["table", "row"])
    wrong = [*cell_problems(text, data), *duplicate_problems(text)]
    found.problems.extend([problem for _, problem in wrong] + lost)
    if not found.problems and text.empty:
        what, action = "no patient in any table", "add a row per patient"
        found.problems.append(Problem(Place(root_folder(data)), what, action))
    valid = pd.concat(has_bag) & ~text.index.isin([row for row, _ in wrong])
    return text[valid], found


def _assemble(text: pd.DataFrame, bags: Bags, data: DataConfig) -> Cohort:
    origin = text.index.to_frame().set_index(text["id"])
    text = text.set_index("id")
    values: dict[str, Any] = {
        "label": text["label"].map(data.label_values) if "label" in text else -1
    }
    for name, column in data.columns.items():
        read = text[name].map(partial(read_cell, name, data=data))
        values[name] = read.astype("str" if column.kind == "categorical" else "float64")
    births: dict[str, pd.Series] = {}
    for name in data.birth_dates:
        dates = text[name].map(partial(birth_date, data=data), na_action="ignore")
        separators = text[name].map(partial(separator_of, data=data), na_action="ignore")
        births[name] = born = pd.to_datetime(dates)
        origin[f"{name} format"] = separators
        origin[f"{name} ambiguous"] = (born.dt.day <= 12) & (born.dt.day != born.dt.month)
    table = pd.DataFrame(values, index=text.index).astype({"label": "int64"})
    sexes = table[data.sexes].map(_one_spelling)
    origin["person"] = _persons(text, sexes.assign(**births), data)
    if data.site_column:
        origin["site"] = text[SITE]
    table = table.sort_index()
    persons = origin["person"].loc[table.index]
    alone = pd.Series([(patient,) for patient in table.index], table.index, dtype=object)
    table.insert(1, "group", pd.factorize(persons.astype(object).where(persons.notna(), alone))[0])
    return Cohort(
        name=data.name, table=table,
        images={patient: bags.images[patient] for patient in table.index},
        origin=origin.loc[table.index],
        schema={name: input_schema(data.columns[name]) for name in data.clinical},
        declared=tuple(n for n in ("person", "site") if getattr(data, f"{n}_column")),
        unused=bags.unused,
    )  # fmt: skip


def _one_spelling(sex: Any) -> Any:
    """Return F or M where it is one, so that cohorts that spell them in two ways know a person."""
    spelled = str(sex).casefold()
    return "F" if spelled in FEMALE else "M" if spelled in MALE else sex


def _persons(text: pd.DataFrame, known: pd.DataFrame, data: DataConfig) -> pd.Series:
    """Return a text that only one person's records have, NaN where a value it needs is missing.

    It is the person's column, exactly as written; else birth date and sex, as in `known`.
    """
    if data.person_column:
        return text[PERSON]
    if data.person_rule is None:
        return pd.Series(np.nan, text.index, dtype=object)
    texts = known.astype(str).fillna("").agg(" ".join, axis=1)
    return texts.where(known.notna().all(axis=1))


def subgroups(cohort: Cohort, data: DataConfig) -> pd.DataFrame:
    """Return a column of categories for each grouping, indexed by patient.

    `hard`, where declared: "1" up to `max`, where clinical values do not separate the classes, "0"
    above, "unknown". `records of the person`, where any has several: "one" or "several". `site`,
    where declared; every category, age by OLD, the birth date's separator, half of a table's rows.
    """
    table, origin = cohort.table, cohort.origin
    found = pd.DataFrame(index=table.index)
    if stratum := data.hard_stratum:
        values = table[stratum.column]
        found["hard"] = _either(values, values <= stratum.max, "1", "0")
    if (several := table["group"].duplicated(keep=False)).any():
        found["records of the person"] = several.map({True: "several", False: "one"})
    if data.site_column:
        found["site"] = origin["site"]
    for name, column in data.columns.items():
        values = table[name]
        if column.kind == "categorical":
            found[name] = values.fillna("unknown")
        elif column.kind == "date_of_birth":
            found[name] = _either(values, values >= OLD, f"{OLD} and above", f"below {OLD}")
            found[f"{name} format"] = origin[f"{name} format"].fillna("unknown")
    late = origin["row"] > origin["row"].groupby(origin["table"]).transform("median")
    found["acquisition_half"] = late.map({True: "later half", False: "earlier half"})
    return found


def _either(values: pd.Series, applies: pd.Series, yes: str, no: str) -> pd.Series:
    return applies.map({True: yes, False: no}).where(values.notna(), "unknown")
