"""A bag of any size as one row: how its images' features are distributed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lymphoml.data.rows import RowStore

QUANTILES = (0.1, 0.5, 0.9)


def bag_statistics(store: RowStore, patients: Sequence[str]) -> pd.DataFrame:
    """Mean, standard deviation and QUANTILES of each column, a row a patient.

    How alike a patient's cells are is what a cytologist looks at: a clone is uniform. None of
    these grows or shrinks with the number of images.
    """
    rows = [_statistics(store.bag(patient).astype(float)) for patient in patients]
    return pd.DataFrame(rows, index=list(patients))


def _statistics(bag: np.ndarray) -> np.ndarray:
    quantiles = np.quantile(bag, QUANTILES, axis=0)
    return np.concatenate([bag.mean(axis=0), bag.std(axis=0), *quantiles])
