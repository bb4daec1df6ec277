"""Scores of weighted patients, for many sets of weights at once: what a bootstrap resample is.

A weight is how often a patient was drawn. Labels are 0 or 1 (n), probabilities (n), weights (b, n);
all return (b), NaN where a score is undefined.
"""

import numpy as np

from lymphoml.evaluation.conformal import sample_rank
from lymphoml.evaluation.metrics import SENSITIVITY, THRESHOLD
from lymphoml.evaluation.resampling import draw_patients

Array = np.ndarray


def draw_weights(labels: Array, resamples: int, seed: int) -> Array:
    """Bootstrap weights (resamples, n): patients drawn with replacement within each class."""
    positive = labels == 1
    draws = draw_patients(int(positive.sum()), int((~positive).sum()), resamples, seed)
    weights = np.empty((resamples, len(labels)))
    weights[:, positive], weights[:, ~positive] = draws
    return weights


def specificity_at_95(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Each resample has a threshold of its own: that of its tumoral patients."""
    tumoral, reactive = labels == 1, labels != 1
    ordered = np.flatnonzero(tumoral)[np.argsort(probabilities[tumoral])]
    below = np.cumsum(weights[:, ordered], axis=1)  # itself included
    ranks = sample_rank(below[:, -1:], SENSITIVITY)
    thresholds = probabilities[ordered][(below >= ranks).argmax(axis=1)]
    spared = probabilities[reactive] < thresholds[:, None]
    return (weights[:, reactive] * spared).sum(axis=1) / weights[:, reactive].sum(axis=1)


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
    """Of the tumoral class at THRESHOLD; 0 where nobody is tumoral or called so."""
    true, false_alarm, missed, _ = _confusion(labels, probabilities, weights)
    return _ratio(2 * true, 2 * true + false_alarm + missed)


def matthews(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Matthews' correlation at THRESHOLD; 0 where all are called alike."""
    true, false_alarm, missed, rest = _confusion(labels, probabilities, weights)
    called, tumoral = true + false_alarm, true + missed
    spread = np.sqrt(called * tumoral * (missed + rest) * (false_alarm + rest))
    return _ratio(true * rest - false_alarm * missed, spread)


def brier(labels: Array, probabilities: Array, weights: Array) -> Array:
    return weights @ (probabilities - labels) ** 2 / weights.sum(axis=1)


def _confusion(labels: Array, probabilities: Array, weights: Array) -> Array:
    """True positives, false positives, false negatives, true negatives (4 b)."""
    called, tumoral = probabilities > THRESHOLD, labels == 1
    groups = (called & tumoral, called & ~tumoral, ~called & tumoral, ~called & ~tumoral)
    return np.array([weights @ group for group in groups])


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
