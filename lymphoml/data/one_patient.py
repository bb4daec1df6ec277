"""A cohort of one unlabelled patient: a folder of images, and values as a person types them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError, quoted
from lymphoml.core.privacy import hide_dates
from lymphoml.data.cohort import Cohort
from lymphoml.data.columns import OLDEST, CellError, input_schema, is_number, read_cell
from lymphoml.data.image_folders import Paths, patient_images
from lymphoml.data.problems import DataError, Place, shortened
from lymphoml.data.settings import DataConfig

PATIENT = "patient"  # the id


def cohort_of_one(data: DataConfig, images: Path | None, values: Mapping[str, str]) -> Cohort:
    """Return the patient whose images are in the folder `images`, None where no model needs any.

    `values` are texts by name of `data.clinical`; a birth date is given as the age in years.
    Raises InputError with all that is wrong.
    """
    row, problems = read_values(data, values)
    found: Paths = ()
    unused = {}
    if images is not None:
        try:
            inside = data.replace({"root": str(images)})
            found, unused[PATIENT] = patient_images(images, inside, Place(images))
        except DataError as error:
            problems += shortened(error.found)
    if problems:
        raise InputError(problems)
    origin = {"table": 0, "row": 1, "person": np.nan}
    return Cohort(
        name=data.name, table=one_row(data, {"label": -1, "group": 0} | row),
        images={PATIENT: found}, origin=pd.DataFrame([origin], [PATIENT], dtype=object),
        schema={name: input_schema(data.columns[name]) for name in data.clinical}, unused=unused,
    )  # fmt: skip


def one_row(data: DataConfig, row: Mapping[str, Any]) -> pd.DataFrame:
    """Return the patient's row, of the types that a cohort's table has."""
    kinds = {name: "str" if data.columns[name].kind == "categorical" else "float64"
             for name in data.clinical if name in row}  # fmt: skip
    return pd.DataFrame([row], [PATIENT]).astype(kinds)


def read_values(data: DataConfig, values: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return what these texts mean, by name of `data.clinical`, and a line for each problem."""
    read = [*_read(data, values)]
    return {name: value for name, value, problem in read if not problem}, [
        problem for _, _, problem in read if problem
    ]


def _read(data: DataConfig, values: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    """Yield each name, its value, and what is wrong with it, "" where nothing is."""
    known = ", ".join(data.clinical) or "none"
    for name in sorted(values.keys() - {*data.clinical}):
        yield name, None, f"{quoted(name, 60)}: the run's clinical values are {known}"
    for name in data.clinical:
        text, of_date = values.get(name), name in data.birth_dates
        value: Any = np.nan
        try:
            if text is not None:
                value = _age(text) if of_date else read_cell(name, text, data)
            elif data.missing == "error":
                raise CellError("is missing", "give it")
        except CellError as error:
            hidden = "..." if text is None or of_date else hide_dates(quoted(text, 60))
            yield name, None, f"{name}={hidden}: {error.what}; {error.action}"
        else:
            yield name, value, ""


def _age(text: str) -> float:
    if not (is_number(text) and 0 <= float(text) <= OLDEST):
        raise CellError("is not an age", f"give years, 0 to {OLDEST}, and no date")
    return float(text)
