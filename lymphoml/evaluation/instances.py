"""How well a model trained on bag labels ranks the instances of a bag."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from lymphoml.evaluation.intervals import bootstrap_interval, delong

RESAMPLES, SEED = 2000, 0


class InstanceAuroc(NamedTuple):
    """The mean AUROC within bags that hold both classes, its 95 % interval, and their number."""

    value: float
    low: float
    high: float
    bags: int


def within_bag_auroc(table: pd.DataFrame) -> InstanceAuroc:
    """Return the AUROC of instances within bags, each bag weighted the same.

    `table` has the columns patient, probability and truth (0 or 1), a row per instance. The
    interval resamples bags. NaN where no bag holds both classes.
    """
    classes = table.groupby("patient")["truth"].nunique()
    mixed = table[table["patient"].isin(classes.index[classes == 2])]
    each = np.array(
        [delong(bag["truth"], bag["probability"])[0] for _, bag in mixed.groupby("patient")]
    )
    if not len(each):
        return InstanceAuroc(np.nan, np.nan, np.nan, 0)
    drawn = np.random.default_rng(SEED).integers(len(each), size=(RESAMPLES, len(each)))
    interval = bootstrap_interval(each[drawn].mean(axis=1), len(each))
    return InstanceAuroc(float(each.mean()), *interval, len(each))
