"""How many tumoral patients a new one ranks above, by models that held them out; without scipy."""

import numpy as np
import pandas as pd

Scores = dict[tuple[int, ...], np.ndarray]  # by the folds whose models held the patients out


def rule_out_scores(predictions: pd.DataFrame) -> pd.Series:
    """Return what the rule compares: the probability, infinite outside the training range.

    Here alone it is decided that a model never rules out a patient with an `outside_range`.
    Conformal prediction holds for any score of a model and a patient, so for this one.
    """
    if "outside_range" not in predictions:
        return predictions["probability"]
    return predictions["probability"].mask(predictions["outside_range"] != "", np.inf)


def new_scores(probabilities: pd.DataFrame, outside: pd.DataFrame) -> pd.DataFrame:
    """Return `rule_out_scores` of new patients (row) by each fold's model (column).

    `outside` says why a patient lies outside a model's training range, "" where not.
    """
    return probabilities.mask(outside != "", np.inf)


def tumoral_scores(predictions: pd.DataFrame) -> Scores:
    """Return the scores of tumoral patients that the same models held out, in rising order."""
    groups: dict[tuple[int, ...], list[float]] = {}
    predictions = predictions.assign(probability=rule_out_scores(predictions))
    for _, rows in predictions[predictions["label"] == 1].groupby("patient"):
        models = tuple(sorted(rows["fold"].tolist()))
        groups.setdefault(models, []).append(rows["probability"].mean())
    return {models: np.sort(values) for models, values in groups.items()}


def ruled_out(scores: Scores, new: pd.DataFrame, rank: int) -> pd.Series:
    """Return whether fewer than `rank` tumoral patients rank no higher; nobody outside a range is.

    That makes fewer be ruled out than the rule's guarantee allows.
    """
    outside = new.eq(np.inf).any(axis=1)
    return (count_below(scores, new) < rank) & ~outside


def count_below(scores: Scores, new: pd.DataFrame) -> pd.Series:
    """Return for each new patient how many tumoral patients rank no higher, by the same models.

    `new` holds the probability by each fold's model (column) of each new patient (row), infinite
    where the patient lies outside that model's training range. A tumoral patient's out-of-fold
    probability, of `tumoral_scores`, is compared with the new patient's by the models that held the
    former out (means over repeats). Models that agree make this the threshold; else it is
    cross-conformal: Vovk 2015, Annals of Mathematics and Artificial Intelligence 74:9.
    """
    count = pd.Series(0, index=new.index)
    for models, values in scores.items():
        count += np.searchsorted(values, new[list(models)].mean(axis=1), side="right")
    return count
