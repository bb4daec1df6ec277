"""What is known of a cohort's persons: how they are recognised, and who has several records."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from lymphoml.core.errors import printable
from lymphoml.data.cohort import Cohort
from lymphoml.data.folds import split_persons
from lymphoml.data.settings import GROUPED, DataConfig

UNRECOGNISED = "records of one person cannot be recognised and may be in several folds"
DECLARE = (
    "set data.person_column (to the column of ids if each record is another person), or declare "
    "birth date and sex (role: sex) in data.columns"
)


def count_persons(
    cohort: Cohort, data: DataConfig, folds: pd.DataFrame | None = None
) -> dict[str, Any]:
    """Return `rule`, records of `unknown` persons, persons with `several`, and their `records`.

    Of `folds` that do not group persons, also `in_several_folds`: both trained on and held out.
    """
    sizes = cohort.table["group"].value_counts()
    counts = {
        "rule": data.person_rule, "unknown": int(cohort.origin["person"].isna().sum()),
        "several": int((sizes > 1).sum()), "records": int(sizes[sizes > 1].sum()),
    }  # fmt: skip
    if folds is not None and data.splitter != GROUPED:
        split = split_persons(folds, cohort.table["group"], data.folds)
        counts["in_several_folds"] = len(split)
    return counts


def describe_persons(persons: Mapping[str, Any]) -> str:
    """Return one line, without names."""
    if persons["rule"] is None:
        return UNRECOGNISED
    text = f"persons are recognised by {persons['rule']}: {persons['several']} have several records"
    if persons["several"]:
        folds = "a person's records share a fold"
        if (split := persons.get("in_several_folds")) is not None:
            folds = f"{split} of these persons are both trained on and held out"
        text += f", {persons['records']} in all; {folds}"
    if persons["unknown"]:
        text += f"; {persons['unknown']} records do not say, and count as a person each"
    return printable(text)
