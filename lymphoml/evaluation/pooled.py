"""Out-of-fold predictions of all patients, scored together: every score with its interval."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import t as student

from lymphoml.evaluation import resampling
from lymphoml.evaluation.intervals import (
    Interval,
    auroc_interval,
    balanced_accuracy_interval,
    delong,
    logit_interval,
    wilson,
)
from lymphoml.evaluation.metrics import SCORES, score_fold
from lymphoml.evaluation.resampling import bootstrap_interval

Scores = dict[str, dict[str, float]]  # value, low and high of each score

RESAMPLES, SEED = 2000, 0
SPREAD = ("balanced_accuracy", "auroc", "specificity_at_95")
NONE = Interval(np.nan, np.nan)
RESAMPLED = {
    "specificity_at_95": resampling.specificity_at_95,
    "average_precision": resampling.average_precision,
    "f1": resampling.f1,
    "matthews": resampling.matthews,
    "brier": resampling.brier,
}


def pool(predictions: pd.DataFrame, folds_per_repeat: int, names: Sequence[str] = SCORES) -> Scores:
    """The scores `names` of `score_fold` with their 95 % intervals; NaN where undefined.

    `predictions` has the columns patient, fold, label, probability. A repeat's predictions are
    pooled over its folds, and the scores averaged over repeats. Repeating adds no patient:
    the intervals from counts (balanced accuracy, accuracy, sensitivity, specificity) and from
    DeLong's variance (AUROC) are as wide as those of one repeat. The others are from a bootstrap
    of patients within class, which averages over repeats within each resample, and are of that
    mean.
    """
    repeats = [rows for _, rows in predictions.groupby(predictions["fold"] // folds_per_repeat)]
    each = [score_fold(rows["label"], rows["probability"]) for rows in repeats]
    mean = {name: float(np.mean([score[name] for score in each])) for name in each[0]}
    variance = float(np.mean([delong(rows["label"], rows["probability"])[1] for rows in repeats]))
    positives = round(mean["n_positive"])
    negatives = round(mean["n"]) - positives
    true_positive, true_negative = mean["sensitivity"] * positives, mean["specificity"] * negatives
    intervals = {
        "balanced_accuracy": balanced_accuracy_interval(
            true_positive, positives, true_negative, negatives
        ),
        "accuracy": wilson(mean["accuracy"] * mean["n"], round(mean["n"])),
        "sensitivity": wilson(true_positive, positives),
        "specificity": wilson(true_negative, negatives),
        "auroc": auroc_interval(mean["auroc"], variance, positives, negatives),
    }
    intervals |= _resampled(repeats, {name: mean[name] for name in names if name in RESAMPLED})
    return {name: {"value": mean[name]} | intervals[name]._asdict() for name in names}


def split_std(predictions: pd.DataFrame, folds_per_repeat: int) -> dict[str, float]:
    """Standard deviation over repeats of the pooled scores: what the split alone does to them."""
    repeats = predictions.groupby(predictions["fold"] // folds_per_repeat)
    each = pd.DataFrame([score_fold(rows["label"], rows["probability"]) for _, rows in repeats])
    return {name: float(each[name].std(ddof=1)) for name in SPREAD}


def _resampled(repeats: list[pd.DataFrame], values: Mapping[str, float]) -> dict[str, Interval]:
    """Each patient is drawn with all of its repeats. NaN where no resample differs from another."""
    ordered = [rows.sort_values("patient") for rows in repeats]
    labels = ordered[0]["label"].to_numpy()
    smaller = int(min(labels.sum(), (1 - labels).sum()))
    if not values or smaller < 2:
        return dict.fromkeys(values, NONE)
    weights = resampling.draw_weights(labels, RESAMPLES, SEED)
    found = {}
    for name, value in values.items():
        score = RESAMPLED[name]
        drawn = [score(labels, rows["probability"].to_numpy(), weights) for rows in ordered]
        replicates = np.mean(drawn, axis=0)
        if np.ptp(replicates) < 1e-12:  # sums of the same in another order
            found[name] = NONE
        elif name == "average_precision" and value < 1:
            # Its resamples lie too high, the more so near 1: percentiles covered 0.76 to 0.94.
            quantile = float(student.ppf(0.975, smaller - 1))
            found[name] = logit_interval(value, float(replicates.std(ddof=1)), quantile)
        else:
            found[name] = bootstrap_interval(replicates, smaller)
    return found
