"""What is known of a cohort's persons: how they are recognised, and who has several records."""

from collections.abc import Mapping
from typing import Any

from lymphoml.core.errors import printable
from lymphoml.data.cohort import Cohort
from lymphoml.data.settings import DataConfig

UNRECOGNISED = "records of one person cannot be recognised and may be in several folds"
DECLARE = (
    "set data.person_column (to the column of ids if each record is another person), or declare "
    "birth date and sex (role: sex) in data.columns"
)


def count_persons(cohort: Cohort, data: DataConfig) -> dict[str, Any]:
    """Return `rule`, records of `unknown` persons, persons with `several`, and their `records`."""
    sizes = cohort.table["group"].value_counts()
    return {
        "rule": data.person_rule, "unknown": int(cohort.origin["person"].isna().sum()),
        "several": int((sizes > 1).sum()), "records": int(sizes[sizes > 1].sum()),
    }  # fmt: skip


def describe_persons(persons: Mapping[str, Any]) -> str:
    """Return one line, without names."""
    if persons["rule"] is None:
        return UNRECOGNISED
    text = f"persons are recognised by {persons['rule']}: {persons['several']} have several records"
    if persons["several"]:
        text += f", {persons['records']} in all; a person's records share a fold"
    if persons["unknown"]:
        text += f"; {persons['unknown']} records do not say, and count as a person each"
    return printable(text)
