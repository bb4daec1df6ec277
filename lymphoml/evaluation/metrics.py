"""Scores of one set of predictions, without intervals."""

import math

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, f1_score, matthews_corrcoef

from lymphoml.evaluation.intervals import delong
from lymphoml.evaluation.rule_out import sample_rank

THRESHOLD = 0.5  # a probability above it is called tumoral; fixed, since tuning it is optimistic
SENSITIVITY = 0.95  # of specificity_at_95
SCORES = ("balanced_accuracy", "accuracy", "sensitivity", "specificity", "auroc",
          "specificity_at_95", "average_precision", "f1", "matthews", "brier")  # fmt: skip


def score_fold(labels: ArrayLike, probabilities: ArrayLike) -> dict[str, float]:
    """Return n, n_positive and SCORES; NaN where a score needs a class that is absent.

    `labels` are 0 or 1. All scores are NaN where any probability is. `specificity_at_95` is the
    specificity at 95 % sensitivity on the same predictions: it compares methods and guarantees
    nothing for new patients (see `rule_out`).
    """
    positive = np.asarray(labels) == 1
    probability = np.asarray(probabilities, dtype=float)
    counts = {"n": len(positive), "n_positive": int(positive.sum())}
    if np.isnan(probability).any():
        return counts | dict.fromkeys(SCORES, math.nan)
    called = probability > THRESHOLD
    both = 0 < positive.sum() < len(positive)
    sensitivity = _mean(called[positive])
    specificity = _mean(~called[~positive])
    below = probability[~positive] < sensitive_threshold(positive, probability)
    return counts | {
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "accuracy": _mean(called == positive),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "auroc": delong(positive, probability)[0],
        "specificity_at_95": _mean(below) if both else math.nan,
        "average_precision": average_precision_score(positive, probability) if both else math.nan,
        "f1": f1_score(positive, called, zero_division=0.0) if both else math.nan,
        "matthews": matthews_corrcoef(positive, called) if both else math.nan,
        "brier": _mean((probability - positive) ** 2),
    }


def sensitive_threshold(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the highest threshold at which SENSITIVITY of the tumoral patients are called.

    A probability equal to it is called. 0 without tumoral patients.
    """
    tumoral = np.sort(probabilities[labels == 1])
    return float(tumoral[sample_rank(len(tumoral), SENSITIVITY) - 1]) if len(tumoral) else 0.0


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan
