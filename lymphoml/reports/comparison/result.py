"""What a comparison of runs tells."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lymphoml.evaluation.paired import PAIR_SCORES
from lymphoml.evaluation.selection import Best, smallest_detectable


@dataclass(frozen=True)
class Comparison:
    """`table` has a row a run and score: `run, score, value, low, high`, then of the difference to
    the reference `difference, difference_low, difference_high, p, p_holm, detectable`, NaN in the
    reference's rows. `reference` is a run's name or, with `baseline`, which holds its scores, a
    baseline's. `tried` counts the configurations, those that are not here included. `best` is by
    score. `clinical` is a line on what the clinical values alone reach.
    `hard` is the same of the hard stratum alone, with a correction of its own; None where the runs
    tell of none, or it lacks a class. `drifted` are the runs whose code, libraries, data or machine
    changed while they were made.
    """

    reference: str
    patients: int
    tried: int
    table: pd.DataFrame
    best: dict[str, Best]
    clinical: str
    baseline: Mapping[str, Mapping[str, float]] | None = None  # by score: value, low, high
    hard: "Comparison | None" = None
    drifted: tuple[str, ...] = ()

    @property
    def unseen(self) -> int:
        """How many of the configurations tried are not here."""
        return self.tried - self.table["run"].nunique()

    @property
    def tests(self) -> int:
        """How many differences Holm's correction is over."""
        return int(self.table["p"].notna().sum()) + self.unseen * len(PAIR_SCORES)

    @property
    def detectable(self) -> dict[str, dict[str, float]]:
        """By score, medians over runs: `one`, of one comparison planned beforehand, and `holm`.

        The latter is under Holm's correction for all of them.
        """
        ratio = smallest_detectable(1.0, max(self.tests, 1)) / smallest_detectable(1.0)
        medians = {
            score: float(np.nanmedian(rows)) if rows.notna().any() else np.nan
            for score, rows in self.table.groupby("score")["detectable"]
        }
        return {
            score: {"one": medians[score], "holm": medians[score] * ratio} for score in PAIR_SCORES
        }


def parts(comparison: Comparison) -> dict[str, Comparison]:
    """By stratum."""
    hard = {} if comparison.hard is None else {"hard": comparison.hard}
    return {"all": comparison} | hard
