"""A bag of any size as one row: how its images' features are distributed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lymphoml.data.rows import RowStore


def bag_statistics(store: RowStore, patients: Sequence[str]) -> pd.DataFrame:
    """Mean and standard deviation of each column, a row a patient.

    How alike a patient's cells are is what a cytologist looks at: a clone is uniform. Neither grows
    nor shrinks with the number of images.
    """
    bags = [store.bag(patient).astype(float) for patient in patients]
    rows = [np.concatenate([bag.mean(axis=0), bag.std(axis=0)]) for bag in bags]
    return pd.DataFrame(rows, index=list(patients))
