"""Each patient's mean over the repeats of a cross-validation, scored once."""

from typing import Any

import pandas as pd

from lymphoml.evaluation.strata import score_strata


def averaged(
    predictions: pd.DataFrame,
    strata: pd.DataFrame,
    baselines: pd.DataFrame | None,
    folds_per_repeat: int,
) -> dict[str, Any] | None:
    """`score_strata` of the mean probabilities, and how many `repeats`; None of a single one.

    `predict` gives a new patient the mean probability of all models of a run. The other scores are
    of one model at a time; these are of such a mean, from fewer models: one a repeat, none of which
    has trained on the patient. The models of a repeat's other folds have, and are left out. As a
    patient belongs to no one fold here, no threshold can be taken from the other folds.
    """
    repeats = int(predictions["fold"].max()) // folds_per_repeat + 1
    if repeats == 1:
        return None
    means = None if baselines is None else over_repeats(baselines)
    return {"repeats": repeats} | score_strata(over_repeats(predictions), strata, means, 1)


def over_repeats(table: pd.DataFrame) -> pd.DataFrame:
    """A row a patient, all of fold 0: the means of the other columns."""
    return table.drop(columns="fold").groupby("patient").mean().assign(fold=0).reset_index()
