"""Scores of one set of predictions, and the threshold from which a probability is tumoral."""

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, f1_score, matthews_corrcoef

from lymphoml.evaluation.cross_conformal import rule_out_scores
from lymphoml.evaluation.intervals import balanced_accuracy_interval, delong, proportion
from lymphoml.evaluation.rule_out import sample_rank

THRESHOLD = 0.5  # a probability above it is called tumoral; fixed, since tuning it is optimistic
SENSITIVITY = 0.95  # of specificity_at_95
SCORES = ("balanced_accuracy", "accuracy", "sensitivity", "specificity", "auroc",
          "specificity_at_95", "average_precision", "f1", "matthews", "brier")  # fmt: skip


def score_fold(
    labels: ArrayLike, probabilities: ArrayLike, rule_out: ArrayLike | None = None
) -> dict[str, float]:
    """Return n, n_positive and SCORES; NaN where a score needs a class that is absent.

    `labels` are 0 or 1. All scores are NaN where any probability is. `specificity_at_95` is the
    specificity at 95 % sensitivity on the same predictions: it compares methods and guarantees
    nothing for new patients. It uses `rule_out_scores`, where given, in place of probabilities.
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
    scores = probability if rule_out is None else np.asarray(rule_out, dtype=float)
    below = scores[~positive] < sensitive_threshold(positive, scores)
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
    """Return the highest threshold, up to 1, at which SENSITIVITY of the tumoral are called.

    A probability equal to it is called. 0 without tumoral patients.
    """
    tumoral = np.sort(probabilities[labels == 1]).clip(max=1)
    return float(tumoral[sample_rank(len(tumoral), SENSITIVITY) - 1]) if len(tumoral) else 0.0


def thresholds(predictions: pd.DataFrame, folds_per_repeat: int) -> dict[str, Any]:
    """Return the scores, with intervals, at four choices of each fold's threshold.

    `fixed`: THRESHOLD. `nested`: the best on the out-of-fold predictions of the repeat's other
    folds. `nested_95`: the highest that keeps 95 % sensitivity there (`sensitive_threshold`).
    `best_on_fold`: the best on the scored patients themselves, which is `invalid` (optimistic).

    No nested threshold is chosen on a label that it is applied to. But the models of the other
    folds trained on this fold's patients, so it is not a strictly nested cross-validation.
    """
    labels, probability, folds = (predictions[key] for key in ("label", "probability", "fold"))
    scores = rule_out_scores(predictions)
    repeat = folds // folds_per_repeat
    repeats = repeat.nunique()
    nested, sensitive, own = {}, {}, {}
    for fold in sorted(folds.unique().tolist()):
        others = (repeat == fold // folds_per_repeat) & (folds != fold)
        nested[fold] = best_threshold(predictions[others])
        sensitive[fold] = sensitive_threshold(labels[others].to_numpy(), scores[others].to_numpy())
        own[fold] = best_threshold(predictions[folds == fold])

    def accuracy(called: pd.Series) -> dict[str, Any]:
        right = _right(labels, called, repeats)
        value = float(np.mean([hits / n if n else np.nan for hits, n in right.values()]))
        limits = balanced_accuracy_interval(*right[1], *right[0])
        return {"balanced_accuracy": {"value": value} | limits._asdict()}

    at_95 = _right(labels, scores >= folds.map(sensitive), repeats)
    return {
        "fixed": accuracy(probability > THRESHOLD),
        "nested": accuracy(probability > folds.map(nested)) | {"thresholds": list(nested.values())},
        "nested_95": {
            "sensitivity": proportion(*at_95[1])._asdict(),
            "specificity": proportion(*at_95[0])._asdict(),
            "thresholds": list(sensitive.values()),
        },
        "best_on_fold": accuracy(probability > folds.map(own)) | {"invalid": True},
    }


def best_threshold(rows: pd.DataFrame) -> float:
    """Return the threshold of highest balanced accuracy on `rows`; of ties the nearest THRESHOLD.

    Candidates are halfway between neighbouring probabilities. THRESHOLD where a class is absent.
    """
    labels, probabilities = rows["label"].to_numpy(), rows["probability"].to_numpy()
    if len(np.unique(labels)) < 2:
        return THRESHOLD
    distinct = np.unique(probabilities)
    candidates = np.concatenate([[THRESHOLD], (distinct[1:] + distinct[:-1]) / 2])
    called = probabilities > candidates[:, None]
    accuracy = (called[:, labels == 1].mean(axis=1) + (~called[:, labels == 0]).mean(axis=1)) / 2
    best = candidates[accuracy >= accuracy.max() - 1e-12]
    return float(best[np.abs(best - THRESHOLD).argmin()])


def _right(labels: pd.Series, called: pd.Series, repeats: int) -> dict[int, tuple[float, int]]:
    """Return by label the mean number of right calls over repeats, and the number of patients."""
    right = called == labels
    return {
        label: (right[labels == label].sum() / repeats, int((labels == label).sum()) // repeats)
        for label in (0, 1)
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan
