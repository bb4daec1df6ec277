"""Out-of-fold predictions of all patients, scored together: every score with its interval."""

import numpy as np
import pandas as pd

from lymphoml.evaluation import weighted
from lymphoml.evaluation.intervals import (
    Interval,
    auroc_interval,
    balanced_accuracy_interval,
    delong,
    wilson,
)
from lymphoml.evaluation.metrics import score_fold

Scores = dict[str, dict[str, float]]  # value, low and high of each score

RESAMPLES, SEED = 2000, 0
RESAMPLED = {
    "average_precision": weighted.average_precision,
    "f1": weighted.f1,
    "matthews": weighted.matthews,
    "brier": weighted.brier,
}


def pool(predictions: pd.DataFrame, folds_per_repeat: int) -> Scores:
    """The scores of `score_fold` with their 95 % intervals; NaN where undefined.

    `predictions` has the columns patient, fold, label, probability. A repeat's predictions are
    pooled over its folds, and the scores averaged over repeats. The intervals are those of one
    repeat, since repeating adds no patient: from counts (balanced accuracy, sensitivity,
    specificity), from DeLong's variance (AUROC), else percentiles of a bootstrap of patients
    within class.
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
        "sensitivity": wilson(true_positive, positives),
        "specificity": wilson(true_negative, negatives),
        "auroc": auroc_interval(mean["auroc"], variance, positives, negatives),
        **_resampled(repeats),
    }
    return {name: {"value": mean[name]} | each._asdict() for name, each in intervals.items()}


def split_spread(predictions: pd.DataFrame, folds_per_repeat: int) -> dict[str, float]:
    """Standard deviation over repeats of the pooled scores: what the split alone does to them."""
    repeats = predictions.groupby(predictions["fold"] // folds_per_repeat)
    each = pd.DataFrame([score_fold(rows["label"], rows["probability"]) for _, rows in repeats])
    return {name: float(each[name].std(ddof=1)) for name in ("balanced_accuracy", "auroc")}


def _resampled(repeats: list[pd.DataFrame]) -> dict[str, Interval]:
    """Each patient is drawn with all of its repeats."""
    ordered = [rows.sort_values("patient") for rows in repeats]
    labels = ordered[0]["label"].to_numpy()
    if not 0 < labels.sum() < len(labels):
        return dict.fromkeys(RESAMPLED, Interval(np.nan, np.nan))
    weights = weighted.draw_weights(labels, RESAMPLES, SEED)
    found = {}
    for name, score in RESAMPLED.items():
        drawn = [score(labels, rows["probability"].to_numpy(), weights) for rows in ordered]
        found[name] = Interval(*np.quantile(np.mean(drawn, axis=0), (0.025, 0.975)).tolist())
    return found
