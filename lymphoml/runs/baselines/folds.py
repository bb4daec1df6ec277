"""What a baseline is given: one fold's patients, and the clinical values scaled for them."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.cohort import Cohort

Array = np.ndarray


class Fold(NamedTuple):
    data: dict[str, Any]  # the configuration's group of that name
    cohort: Cohort
    train: list[str]
    held_out: list[str]

    @property
    def labels(self) -> pd.Series:
        """Of the training patients."""
        return self.cohort.table["label"].loc[self.train]

    def clinical(self) -> tuple[Array, Array]:
        """Of training and held-out patients: standardised, positive quantities logged."""
        data, table = self.data, self.cohort.table
        columns = {
            name: column | ({"log": True} if column.get("positive") else {})
            for name, column in data["columns"].items()
        }
        train, held_out = table.loc[self.train], table.loc[self.held_out]
        encoder = ClinicalEncoder.fit(
            train, columns, data["clinical"], standardize=True, missing=data["missing"]
        )
        return encoder.transform(train), encoder.transform(held_out)
