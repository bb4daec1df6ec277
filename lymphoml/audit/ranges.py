"""Clinical values, dates and classes: ranges, outliers, what is ambiguous, what folds there can be.

Ages are told in whole years, since a birth date could be made from more.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.audit.problems import Finding, count
from lymphoml.data.cohort import Cohort
from lymphoml.data.folds import people

FENCE = 3.0  # interquartile ranges beyond a quartile (Tukey 1977: far out)
PLAUSIBLE = (0.1, 1000.0)  # median of a lymphocyte count in 10^9/L


def value_ranges(cohort: Cohort, data: dict) -> dict[str, dict[str, Any]]:
    """Of each numeric column and age: least, median, most, how many lack it, and who is far out.

    Far out on the logarithm's scale where a value must be positive.
    """
    ranges = {}
    for name, column in data["columns"].items():
        if column["kind"] == "categorical":
            continue
        values = cohort.table[name].dropna()
        missing = int(cohort.table[name].isna().sum())
        if values.empty:
            ranges[name] = {"missing": missing, "outliers": []}
            continue
        is_age = column["kind"] == "date_of_birth"
        shown = np.floor(values) if is_age else values
        ranges[name] = {
            "missing": missing,
            "least": float(shown.min()),
            "median": float(np.floor(values.median()) if is_age else values.median()),
            "most": float(shown.max()),
            "outliers": _far_out(
                values, logarithm=bool(column.get("log") or column.get("positive"))
            ),
        }
    return ranges


def _far_out(values: pd.Series, logarithm: bool) -> list[str]:
    values = np.log(values) if logarithm else values
    low, high = values.quantile([0.25, 0.75])
    reach = FENCE * (high - low)
    return [str(each) for each in values.index[(values < low - reach) | (values > high + reach)]]


def date_formats(cohort: Cohort) -> dict[str, dict[str, dict[str, int]]]:
    """Of each birth date's column and separator, how many there are and how many are ambiguous."""
    return {
        name[:-7]: {
            str(separator): {
                "dates": len(rows),
                "ambiguous": int(rows[f"{name[:-7]} ambiguous"].sum()),
            }
            for separator, rows in cohort.origin.groupby(name)
        }
        for name in map(str, cohort.origin)
        if name.endswith(" format")
    }


def class_counts(cohort: Cohort) -> dict[str, Any]:
    """Records by label, persons by label, and the most folds that can hold both classes each."""
    labels, persons = cohort.table["label"], people(cohort.labelled.table)
    most = int(persons.min())
    return {
        "records": len(labels),
        "tumoral": int((labels == 1).sum()),
        "reactive": int((labels == 0).sum()),
        "unlabelled": int((labels == -1).sum()),
        "persons": {"tumoral": int(persons[1]), "reactive": int(persons[0])},
        "most_folds": most if most >= 2 else 0,
    }


def table_findings(
    ranges: dict[str, Any], dates: dict[str, Any], classes: dict[str, Any], data: dict
) -> Iterator[Finding]:
    """The column of `data.hard_stratum` is taken for one of lymphocyte counts."""
    counts = (data["hard_stratum"] or {}).get("column")
    for name, told in ranges.items():
        if told["missing"]:
            what = f"{name} is missing in {count(told['missing'], 'patient')}"
            yield Finding("warning", "range", what, (), "fill in, or see that it is at random")
        if told["outliers"]:
            what = f"{name} far out in {count(len(told['outliers']), 'patient')}"
            yield Finding("warning", "range", what, tuple(told["outliers"]), "check the values")
        if "median" in told:
            what = f"{name}: {told['least']:g} to {told['most']:g}, median {told['median']:g}"
            yield Finding("note", "range", what)
            if name == counts and not PLAUSIBLE[0] <= told["median"] <= PLAUSIBLE[1]:
                what = f"{name} has a median of {told['median']:g}, which cannot be in 10^9/L"
                yield Finding("warning", "range", what, (), "check the unit")
    for name, formats in dates.items():
        parts = ", ".join(
            f"{told['dates']} with {separator} ({told['ambiguous']} of them with a day and month "
            f"that could be swapped, read as {data['date_formats'][separator]})"
            for separator, told in formats.items()
        )
        mixed = len(formats) > 1 and any(told["ambiguous"] for told in formats.values())
        action = "make sure of data.date_formats at the source" if mixed else ""
        yield Finding("warning" if mixed else "note", "date", f"{name}: {parts}", (), action)
    yield from _class_findings(classes, data)


def _class_findings(classes: dict[str, Any], data: dict) -> Iterator[Finding]:
    labelled = classes["tumoral"] + classes["reactive"]
    what = f"{classes['tumoral']} tumoral, {classes['reactive']} reactive, "
    what += f"{classes['unlabelled']} unlabelled"
    if not labelled:
        yield Finding("note", "class", f"{what}; a cohort to predict, nothing to train on")
    elif not classes["most_folds"]:
        action = "cross-validation needs two persons of each class"
        yield Finding(
            "error", "class", f"{what}: no number of folds can hold both classes each", (), action
        )
    elif data["folds"] > classes["most_folds"]:
        action = f"set data.folds to {classes['most_folds']} or less"
        yield Finding(
            "error", "class", f"{what}: too few for data.folds={data['folds']}", (), action
        )
    else:
        yield Finding("note", "class", f"{what}; at most {classes['most_folds']} folds")
