"""The threshold from which a probability is called tumoral: fixed, or chosen on other folds."""

from typing import Any

import numpy as np
import pandas as pd

from lymphoml.evaluation.intervals import balanced_accuracy_interval, proportion
from lymphoml.evaluation.metrics import THRESHOLD, sensitive_threshold


def thresholds(predictions: pd.DataFrame, folds_per_repeat: int) -> dict[str, Any]:
    """Return the scores, with intervals, at four choices of each fold's threshold.

    `fixed`: THRESHOLD. `nested`: the best on the out-of-fold predictions of the repeat's other
    folds. `nested_95`: the highest that keeps 95 % sensitivity there (`sensitive_threshold`).
    `best_on_fold`: the best on the scored patients themselves, which is `invalid` (optimistic).

    No nested threshold is chosen on a label that it is applied to. But the models of the other
    folds trained on this fold's patients, so it is not a strictly nested cross-validation.
    """
    repeat = predictions["fold"] // folds_per_repeat
    nested: dict[int, float] = {}
    sensitive: dict[int, float] = {}
    own: dict[int, float] = {}
    for fold in sorted(predictions["fold"].unique().tolist()):
        held_out = predictions["fold"] == fold
        rows = predictions[held_out]
        others = predictions[(repeat == fold // folds_per_repeat) & ~held_out]
        nested[fold], own[fold] = best_threshold(others), best_threshold(rows)
        sensitive[fold] = sensitive_threshold(
            others["label"].to_numpy(), others["probability"].to_numpy()
        )
    labels, probability, folds = (predictions[key] for key in ("label", "probability", "fold"))
    repeats = repeat.nunique()

    def accuracy(called: pd.Series) -> dict[str, Any]:
        right = _right(labels, called, repeats)
        value = float(np.mean([hits / n if n else np.nan for hits, n in right.values()]))
        limits = balanced_accuracy_interval(*right[1], *right[0])
        return {"balanced_accuracy": {"value": value} | limits._asdict()}

    at_95 = _right(labels, probability >= folds.map(sensitive), repeats)
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
