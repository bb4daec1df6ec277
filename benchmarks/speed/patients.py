"""A cohort in Kaggle's layout, read as a script would: the raw inputs of the two plain recipes."""

from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd

REFERENCE = date(2020, 1, 1)
FORMATS = {"/": "%m/%d/%Y", "-": "%d-%m-%Y"}


class Patient(NamedTuple):
    id: str
    images: tuple[Path, ...]
    clinical: tuple[float, float]  # age in years, lymphocyte count in 10^9/L
    label: int


def read_patients(root: Path) -> list[Patient]:
    """The labelled patients, sorted by id."""
    table = pd.read_csv(root / "trainset" / "trainset_true.csv", dtype={"ID": str, "DOB": str})
    rows = zip(table["ID"], table["DOB"], table["LYMPH_COUNT"], table["LABEL"], strict=True)
    return sorted(
        Patient(
            patient,
            tuple(sorted((root / "trainset" / patient).glob("*.jpg"))),
            (_age(born), float(count)),
            int(label),
        )
        for patient, born, count, label in rows
    )


def split(patients: list[Patient]) -> tuple[list[Patient], list[Patient]]:
    """One fold of five held out: training patients, held-out patients."""
    held_out = len(patients) // 5
    return patients[held_out:], patients[:held_out]


def _age(born: str) -> float:
    form = FORMATS["/" if "/" in born else "-"]
    return (REFERENCE - datetime.strptime(born, form).date()).days / 365.25
