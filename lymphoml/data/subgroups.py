"""Subgroups in which a cohort is scored: categories of each patient, which no model sees."""

import pandas as pd

from lymphoml.data.cohort import Cohort
from lymphoml.data.settings import DataConfig

OLD = 65  # years


def subgroups(cohort: Cohort, data: DataConfig) -> pd.DataFrame:
    """Return a column of categories for each grouping, indexed by patient.

    `hard`, where `data.hard_stratum` is declared: "1" for a value of its column up to `max`, where
    clinical values do not separate the classes, "0" above, "unknown" where it is missing. Then
    every categorical column, age by OLD, the separator of the birth date, and the earlier and later
    half of each table's rows.
    """
    table, origin = cohort.table, cohort.origin
    found = pd.DataFrame(index=table.index)
    if stratum := data.hard_stratum:
        values = table[stratum.column]
        found["hard"] = _either(values, values <= stratum.max, "1", "0")
    for name, column in data.columns.items():
        values = table[name]
        if column.kind == "categorical":
            found[name] = values.fillna("unknown")
        elif column.kind == "date_of_birth":
            found[name] = _either(values, values >= OLD, f"{OLD} and above", f"below {OLD}")
            found[f"{name} format"] = origin[f"{name} format"].fillna("unknown")
    middle = origin["row"].groupby(origin["table"]).transform("median")
    late = origin["row"] > middle
    found["acquisition_half"] = late.map({True: "later half", False: "earlier half"})
    return found


def _either(values: pd.Series, applies: pd.Series, yes: str, no: str) -> pd.Series:
    return applies.map({True: yes, False: no}).where(values.notna(), "unknown")
