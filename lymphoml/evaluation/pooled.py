"""Scores of all patients' predictions together, or of their images, each with its interval.

The scores without a known variance are bootstrapped. Their functions here take labels (n),
probabilities (n) and weights (b, n), how often a resample drew each patient, and return (b).
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter

import numpy as np
import pandas as pd
from scipy.stats import t as student

from lymphoml.evaluation.cross_conformal import rule_out_scores
from lymphoml.evaluation.intervals import (
    NO_INTERVAL,
    UNDEFINED,
    Estimate,
    Interval,
    auroc_interval,
    balanced_accuracy_interval,
    bootstrap_interval,
    delong,
    logit_interval,
    wilson,
)
from lymphoml.evaluation.metrics import SCORES, SENSITIVITY, THRESHOLD, score_fold
from lymphoml.evaluation.paired import draw_patients
from lymphoml.evaluation.rule_out import RESAMPLES, SEED, sample_rank

Array = np.ndarray
Scores = dict[str, dict[str, float]]  # value, low and high of each score


def pool(predictions: pd.DataFrame, folds_per_repeat: int, names: Sequence[str] = SCORES) -> Scores:
    """Return the scores `names` of `score_fold` with 95 % intervals; NaN where undefined.

    `predictions` has the columns patient, fold, label, probability. Predictions are pooled over the
    folds of a repeat, and scores averaged over repeats. Repeats add no patient: intervals from
    counts and from DeLong's variance (AUROC) are as wide as those of one repeat. The others are of
    a bootstrap of patients within class, averaged over repeats within each resample.
    """
    repeats = [rows for _, rows in predictions.groupby(predictions["fold"] // folds_per_repeat)]
    each = [score_rows(rows) for rows in repeats]
    mean = {name: float(np.mean([score[name] for score in each])) for name in each[0]}
    variance = float(np.mean([delong(rows["label"], rows["probability"])[1] for rows in repeats]))
    positives = round(mean["n_positive"])
    negatives = round(mean["n"]) - positives
    true_positive = mean["sensitivity"] * positives, positives
    true_negative = mean["specificity"] * negatives, negatives
    intervals = {
        "balanced_accuracy": balanced_accuracy_interval(*true_positive, *true_negative),
        "accuracy": wilson(mean["accuracy"] * mean["n"], round(mean["n"])),
        "sensitivity": wilson(*true_positive),
        "specificity": wilson(*true_negative),
        "auroc": auroc_interval(mean["auroc"], variance, positives, negatives),
    }
    intervals |= _bootstrap(repeats, {name: mean[name] for name in names if name in RESAMPLED})
    return {name: {"value": mean[name]} | intervals[name]._asdict() for name in names}


def split_std(predictions: pd.DataFrame, folds_per_repeat: int) -> dict[str, float]:
    """Return the standard deviation over repeats of three scores: the effect of the split."""
    repeats = predictions.groupby(predictions["fold"] // folds_per_repeat)
    each = pd.DataFrame([score_rows(rows) for _, rows in repeats])
    names = ("balanced_accuracy", "auroc", "specificity_at_95")
    return {name: float(each[name].std(ddof=1)) for name in names}


def score_rows(rows: pd.DataFrame) -> dict[str, float]:
    """Return `score_fold` of predictions, with the columns of `pool` and perhaps outside_range."""
    return score_fold(rows["label"], rows["probability"], rule_out_scores(rows))


def _bootstrap(repeats: list[pd.DataFrame], values: Mapping[str, float]) -> dict[str, Interval]:
    """Draw each patient with all of its repeats. NaN where all resamples are equal."""
    ordered = [rows.sort_values("patient") for rows in repeats]
    labels = ordered[0]["label"].to_numpy()
    smaller = int(min(labels.sum(), (1 - labels).sum()))
    if not values or smaller < 2:
        return dict.fromkeys(values, NO_INTERVAL)
    weights = draw_weights(labels)
    intervals = {}
    for name, value in values.items():
        column = rule_out_scores if name == "specificity_at_95" else itemgetter("probability")
        each = [RESAMPLED[name](labels, column(rows).to_numpy(), weights) for rows in ordered]
        replicates = np.mean(each, axis=0)
        if np.ptp(replicates) < 1e-12:  # the same up to rounding
            intervals[name] = NO_INTERVAL
        elif name == "average_precision" and value < 1:
            # Its resamples are biased upwards, most near 1: percentiles covered 0.76 to 0.94.
            quantile = float(student.ppf(0.975, smaller - 1))
            intervals[name] = logit_interval(value, float(replicates.std(ddof=1)), quantile)
        else:
            intervals[name] = bootstrap_interval(replicates, smaller)
    return intervals


def draw_weights(labels: Array) -> Array:
    """Draw bootstrap weights (RESAMPLES, n): patients with replacement within each class."""
    positive = labels == 1
    weights = np.empty((RESAMPLES, len(labels)))
    weights[:, positive], weights[:, ~positive] = draw_patients(
        int(positive.sum()), int((~positive).sum()), RESAMPLES, SEED
    )
    return weights


def specificity_at_95(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Specificity at 95 % sensitivity, each resample with the threshold of its own positives."""
    tumoral, reactive = labels == 1, labels != 1
    ordered = np.flatnonzero(tumoral)[np.argsort(probabilities[tumoral])]
    up_to = np.cumsum(weights[:, ordered], axis=1)
    ranks = sample_rank(up_to[:, -1:], SENSITIVITY)
    thresholds = probabilities[ordered][(up_to >= ranks).argmax(axis=1)]
    below = probabilities[reactive] < thresholds[:, None]
    return (weights[:, reactive] * below).sum(axis=1) / weights[:, reactive].sum(axis=1)


def average_precision(labels: Array, probabilities: Array, weights: Array) -> Array:
    """The step-wise area under the precision-recall curve; equal probabilities are one step."""
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    ends = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    true = np.cumsum(weights[:, order] * labels[order], axis=1)[:, ends]
    called = np.cumsum(weights[:, order], axis=1)[:, ends]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(called > 0, true / called, 0.0)
        recall = true / true[:, -1:]
        return np.sum(np.diff(recall, axis=1, prepend=0.0) * precision, axis=1)


def f1(labels: Array, probabilities: Array, weights: Array) -> Array:
    """F1 of the tumoral class at THRESHOLD; 0 without any true or called positive."""
    true, false_alarm, missed, _ = _confusion(labels, probabilities, weights)
    return _ratio(2 * true, 2 * true + false_alarm + missed)


def matthews(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Matthews' correlation at THRESHOLD; 0 where all are called alike."""
    true, false_alarm, missed, rest = _confusion(labels, probabilities, weights)
    called, tumoral = true + false_alarm, true + missed
    scale = np.sqrt(called * tumoral * (missed + rest) * (false_alarm + rest))
    return _ratio(true * rest - false_alarm * missed, scale)


def brier(labels: Array, probabilities: Array, weights: Array) -> Array:
    return weights @ (probabilities - labels) ** 2 / weights.sum(axis=1)


def _confusion(labels: Array, probabilities: Array, weights: Array) -> Array:
    """True positives, false positives, false negatives, true negatives (4, b)."""
    called, tumoral = probabilities > THRESHOLD, labels == 1
    groups = (called & tumoral, called & ~tumoral, ~called & tumoral, ~called & ~tumoral)
    return np.array([weights @ group for group in groups])


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


RESAMPLED = {each.__name__: each
             for each in (specificity_at_95, average_precision, f1, matthews, brier)}  # fmt: skip


def within_bag_auroc(table: pd.DataFrame) -> tuple[Estimate, int]:
    """Return the mean AUROC within bags that hold both classes, NaN without any, and their number.

    `table` has the columns patient, probability and truth (0 or 1), a row per instance. The
    interval resamples bags.
    """
    classes = table.groupby("patient")["truth"].nunique()
    mixed = table[table["patient"].isin(classes.index[classes == 2])]
    bags = [bag for _, bag in mixed.groupby("patient")]
    each = np.array([delong(bag["truth"], bag["probability"])[0] for bag in bags])
    return mean_over_persons(each, np.arange(len(each))), len(each)


def mean_over_persons(values: Array, persons: Array) -> Estimate:
    """Return the mean of `values` (n); its interval resamples `persons` (n). NaN without any."""
    if not len(values):
        return UNDEFINED
    _, person = np.unique(persons, return_inverse=True)
    sums, counts = np.bincount(person, values), np.bincount(person)
    drawn = np.random.default_rng(SEED).integers(len(sums), size=(RESAMPLES, len(sums)))
    replicates = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return Estimate(float(values.mean()), *bootstrap_interval(replicates, len(sums)))
