"""Scores of one set of predictions, without intervals."""

import math

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, f1_score, matthews_corrcoef

from lymphoml.evaluation.intervals import delong

THRESHOLD = 0.5  # a probability above it is called tumoral; fixed, since tuning it is optimistic
SCORES = ("balanced_accuracy", "accuracy", "sensitivity", "specificity", "auroc",
          "average_precision", "f1", "matthews", "brier")  # fmt: skip


def score_fold(labels: ArrayLike, probabilities: ArrayLike) -> dict[str, float]:
    """Scores of one set of predictions; NaN where a score needs a class that is absent.

    `labels` are 0 or 1. All scores are NaN where any probability is.
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
    return counts | {
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "accuracy": _mean(called == positive),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "auroc": delong(positive, probability)[0],
        "average_precision": average_precision_score(positive, probability) if both else math.nan,
        "f1": f1_score(positive, called, zero_division=0.0) if both else math.nan,
        "matthews": matthews_corrcoef(positive, called) if both else math.nan,
        "brier": _mean((probability - positive) ** 2),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan
