"""How well a model that learned from bags alone tells the instances apart."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from lymphoml.evaluation.intervals import delong
from lymphoml.evaluation.resampling import bootstrap_interval

RESAMPLES, SEED = 2000, 0


class Found(NamedTuple):
    """The mean AUROC within bags that hold both kinds, its 95 % interval, and their number."""

    value: float
    low: float
    high: float
    bags: int


def within_bag_auroc(table: pd.DataFrame) -> Found:
    """Of the columns patient, probability and truth (0 or 1), a row an instance.

    Within bags: that bags differ is what the model was trained on. Each bag counts once, whatever
    its size; the interval resamples bags. NaN where no bag holds both kinds.
    """
    kinds = table.groupby("patient")["truth"].nunique()
    mixed = table[table["patient"].isin(kinds.index[kinds == 2])]
    each = np.array(
        [delong(bag["truth"], bag["probability"])[0] for _, bag in mixed.groupby("patient")]
    )
    if not len(each):
        return Found(np.nan, np.nan, np.nan, 0)
    drawn = np.random.default_rng(SEED).integers(len(each), size=(RESAMPLES, len(each)))
    interval = bootstrap_interval(each[drawn].mean(axis=1), len(each))
    return Found(float(each.mean()), *interval, len(each))
