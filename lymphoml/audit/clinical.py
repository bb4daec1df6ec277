"""Clinical values, dates, classes, and records that are probably one person.

Ages are reported in whole years, since a birth date could be computed from more.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.audit.findings import Finding, count
from lymphoml.core.errors import InputError
from lymphoml.data.cohort import Cohort
from lymphoml.data.folds import count_groups
from lymphoml.data.persons import DECLARE, UNRECOGNISED
from lymphoml.data.settings import DataConfig
from lymphoml.data.sites import make_site_folds

FENCE = 3.0  # interquartile ranges beyond a quartile (Tukey 1977: far out)
PLAUSIBLE = (0.1, 1000.0)  # median of a lymphocyte count in 10^9/L
HALF_YEAR = 182  # days
LABELS = {1: "tumoral", 0: "reactive", -1: "unlabelled"}


def value_ranges(cohort: Cohort, data: DataConfig) -> dict[str, dict[str, Any]]:
    """Return min, median, max, missing of numbers and ages; outliers, of positive ones by log."""
    ranges: dict[str, dict[str, Any]] = {}
    for name, column in data.columns.items():
        if column.kind == "categorical":
            continue
        values = cohort.table[name].dropna()
        ranges[name] = {"missing": int(cohort.table[name].isna().sum()), "outliers": []}
        if len(values):
            in_years = np.floor if column.kind == "date_of_birth" else float
            positive = column.kind == "numeric" and (column.log or column.positive)
            ranges[name] |= {
                **{key: float(in_years(values.agg(key))) for key in ("min", "median", "max")},
                "outliers": _outliers(np.log(values) if positive else values),
            }
    return ranges


def _outliers(values: pd.Series) -> list[str]:
    low, high = values.quantile([0.25, 0.75])
    if low == high:  # mostly one value, as of 0 and 1: no measure of how far is far
        return []
    reach = FENCE * (high - low)
    return [str(each) for each in values.index[(values < low - reach) | (values > high + reach)]]


def date_formats(cohort: Cohort) -> dict[str, dict[str, dict[str, int]]]:
    """Return by birth date column and separator the number of dates, and of ambiguous ones."""
    names = [str(name).removesuffix(" format") for name in cohort.origin if " format" in str(name)]
    return {
        name: {
            str(separator): {"dates": len(rows), "ambiguous": int(rows[f"{name} ambiguous"].sum())}
            for separator, rows in cohort.origin.groupby(f"{name} format")
        }
        for name in names
    }


def class_counts(cohort: Cohort) -> dict[str, Any]:
    """Return records and persons by label, and the most folds that hold both classes each."""
    labels, persons = cohort.table["label"], count_groups(cohort.labelled.table)
    smaller = int(persons.min())
    return {
        "records": len(labels), "tumoral": int((labels == 1).sum()),
        "reactive": int((labels == 0).sum()), "unlabelled": int((labels == -1).sum()),
        "persons": {"tumoral": int(persons[1]), "reactive": int(persons[0])},
        "max_folds": smaller if smaller >= 2 else 0,
    }  # fmt: skip


def range_findings(ranges: Mapping[str, Any], count_column: str | None) -> Iterator[Finding]:
    """Yield what is missing, far out, or of an implausible unit in the lymphocyte count."""
    for name, values in ranges.items():
        if values["missing"]:
            what = f"{name} is missing in {count(values['missing'], 'patient')}"
            action = "fill in, or check that they are missing at random"
            yield Finding("warning", "range", what, (), action)
        if values["outliers"]:
            what = f"{name} far out in {count(len(values['outliers']), 'patient')}"
            yield Finding("warning", "range", what, tuple(values["outliers"]), "check the values")
        if "median" in values:
            what = f"{name}: {values['min']:g} to {values['max']:g}, median {values['median']:g}"
            yield Finding("note", "range", what)
            if name == count_column and not PLAUSIBLE[0] <= values["median"] <= PLAUSIBLE[1]:
                what = f"{name} has a median of {values['median']:g}, which cannot be in 10^9/L"
                yield Finding("warning", "range", what, (), "check the unit")


def constant_findings(cohort: Cohort, data: DataConfig) -> Iterator[Finding]:
    """Yield inputs without use: constant over the labelled patients, or of a single one."""
    for name in data.clinical:
        values, column = cohort.table[name].dropna(), data.columns[name]
        if values.nunique() == 1:
            what = f"{name} is the same for every labelled patient: no model gives it weight"
            yield Finding("warning", "range", what, (), "leave it out of data.clinical")
        elif column.kind == "categorical" and len(values):
            counts = values.value_counts().reindex(column.categories, fill_value=0)
            for category, n in counts[counts < 2].items():
                what = f"{name}={category}: {count(n, 'labelled patient')}"
                yield Finding("note", "range", f"{what}; without one in training it gets no weight")


def date_findings(dates: Mapping[str, Any], date_formats: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the formats of each date column; a warning where they are mixed and ambiguous."""
    for name, formats in dates.items():
        parts = ", ".join(
            f"{rows['dates']} with {separator} ({rows['ambiguous']} of them with day and month "
            f"exchangeable, read as {date_formats[separator]})"
            for separator, rows in formats.items()
        )
        mixed = len(formats) > 1 and any(rows["ambiguous"] for rows in formats.values())
        action = "confirm data.date_formats with the source" if mixed else ""
        yield Finding("warning" if mixed else "note", "date", f"{name}: {parts}", (), action)


def class_findings(classes: Mapping[str, Any], folds: int) -> Iterator[Finding]:
    """Yield an error where no cross-validation in `folds` is possible."""
    what = f"{classes['tumoral']} tumoral, {classes['reactive']} reactive, "
    what += f"{classes['unlabelled']} unlabelled"
    if not classes["tumoral"] + classes["reactive"]:
        yield Finding("note", "class", f"{what}: to predict, nothing to train on")
    elif not classes["max_folds"]:
        what += ": no number of folds has both classes in each"
        yield Finding("error", "class", what, (), "provide at least two persons of each class")
    elif folds > classes["max_folds"]:
        action = f"set data.folds to {classes['max_folds']} or less"
        yield Finding("error", "class", f"{what}: too few for data.folds={folds}", (), action)
    else:
        yield Finding("note", "class", f"{what}; at most {classes['max_folds']} folds")


def site_findings(cohort: Cohort, data: DataConfig) -> Iterator[Finding]:
    """Yield the classes of each site, and why one cannot be left out at a time if that is set."""
    if data.site_column:
        for site, labels in cohort.table["label"].groupby(cohort.origin["site"]):
            what = f"site {site}: {(labels == 1).sum()} tumoral, {(labels == 0).sum()} reactive"
            yield Finding("note" if labels.nunique() > 1 else "warning", "site", what)
    if data.site_folds:
        try:
            make_site_folds(cohort)
        except InputError as error:
            for problem in error.problems:
                yield Finding("error", "site", "data.folds=site is impossible", (problem,))


def suspected_pairs(cohort: Cohort, tables: Sequence[str], folds: int) -> list[dict[str, Any]]:
    """Return every two records of one person: patients, labels, tables.

    `split_probability` is the chance that a stratified split into `folds` without groups, unlike
    lymphoml's, separates them; None where one is unlabelled.
    """
    sizes, label_of = cohort.table["label"].value_counts(), cohort.table["label"].to_dict()
    table_of = {patient: tables[number] for patient, number in cohort.origin["table"].items()}
    pairs = []
    for _, rows in cohort.table.groupby("group"):
        for pair in map(list, combinations(rows.index, 2)):
            labels, places = [label_of[each] for each in pair], [table_of[each] for each in pair]
            labelled = min(labels) >= 0
            pairs.append({
                "patients": pair, "labels": [LABELS[label] for label in labels], "tables": places,
                "same_label": labels[0] == labels[1] if labelled else None,
                "across_tables": places[0] != places[1],
                "split_probability": _split(labels, sizes, folds) if labelled else None,
            })  # fmt: skip
    return pairs


def _split(labels: list[int], sizes: pd.Series, folds: int) -> float:
    """1 less the chance of one fold, which has room for n / k - 1 of the class's n - 1 others."""
    if labels[0] != labels[1]:
        return 1 - 1 / folds
    n = int(sizes[labels[0]])
    return min(1.0, 1 - (n / folds - 1) / (n - 1))


def coincidences(table: pd.DataFrame, ages: str, sex: str) -> float:
    """Return the pairs of one sex 1 to 182 days apart, over these 364 days: expected by chance."""
    near = 0
    for _, rows in table.dropna(subset=[ages, sex]).groupby(sex):
        days = np.sort(np.round(rows[ages].to_numpy(float) * 365.25))
        ahead = np.searchsorted(days, days + HALF_YEAR, side="right")
        near += int((ahead - np.searchsorted(days, days, side="right")).sum())
    return near / (2 * HALF_YEAR)


def person_findings(persons: dict[str, Any], grouped: bool) -> Iterator[Finding]:
    """Yield what records share a person, and of how many records the person is unknown.

    `grouped` says whether folds keep persons together.
    """
    pairs, expected, rule = persons["pairs"], persons["expected_by_chance"], persons["rule"]
    if rule is None:
        yield Finding("warning", "person", UNRECOGNISED, (), DECLARE)
    elif persons["unknown"]:
        what = f"{count(persons['unknown'], 'record')} without {rule}: each counts as a person"
        yield Finding("warning", "person", what, (), "fill in what is missing")
    if pairs:
        chance = "" if expected is None else f"; {expected:.2g} expected by chance"
        what = f"{count(len(pairs), 'pair')} of records share {rule}{chance}"
        action = "ask the source; train and test tables do not keep them together, folds "
        action += "do" if grouped else "neither: data.splitter=stratified_group_kfold does"
        differ = [pair for pair in pairs if pair["same_label"] is False]
        if differ:
            what += f"; the labels of {count(len(differ), 'pair')} differ"
        yield Finding("warning", "person", what, tuple(map(_line, pairs)), action)


def _line(pair: dict[str, Any]) -> str:
    (a, b), (label_a, label_b) = pair["patients"], pair["labels"]
    line = f"{a} ({label_a}) and {b} ({label_b})"
    if pair["across_tables"]:
        line += f": in different tables, {' and '.join(pair['tables'])}"
    if pair["split_probability"] is not None:
        line += f": ungrouped folds split them with probability {pair['split_probability']:.2f}"
    return line if pair["same_label"] is not False else f"{line}; their labels differ"
