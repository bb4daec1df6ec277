"""Scores as means over pairs of a positive and a negative patient.

The AUROC is the share of pairs in which the positive outranks the negative; balanced accuracy the
mean of (positive called rightly + negative called rightly) / 2. So a score, its mean over repeats
of the cross-validation, a difference of two models and all resamples of patients are read off one
matrix, m positives by n negatives.
"""

from collections.abc import Callable

import numpy as np

from lymphoml.evaluation.metrics import THRESHOLD


def outranks(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """(r, m) and (r, n) to (m, n): the share of r repeats in which the positive is above.

    Ties count half.
    """
    above, below = positives[:, :, None], negatives[:, None, :]
    return ((above > below) + 0.5 * (above == below)).mean(axis=0)


def rightly_called(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """(r, m) and (r, n) probabilities to (m, n): which share of the two is called rightly."""
    hits, rejections = (positives > THRESHOLD).mean(axis=0), (negatives <= THRESHOLD).mean(axis=0)
    return (hits[:, None] + rejections) / 2


SCORES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "balanced_accuracy": rightly_called,
    "auroc": outranks,
}


def score_pairs(positive: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """By score, the matrix (m, n) whose mean is the score; `probabilities` are (r, m + n)."""
    positives, negatives = probabilities[:, positive], probabilities[:, ~positive]
    return {name: pairs(positives, negatives) for name, pairs in SCORES.items()}
