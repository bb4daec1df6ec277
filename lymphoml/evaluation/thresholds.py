"""Where a probability begins to be called tumoral: fixed, chosen elsewhere, or chosen to please."""

from typing import Any

import numpy as np
import pandas as pd

from lymphoml.evaluation.intervals import balanced_accuracy_interval, proportion
from lymphoml.evaluation.metrics import THRESHOLD, sensitive_threshold


def thresholds(predictions: pd.DataFrame, folds_per_repeat: int) -> dict[str, Any]:
    """What is reached, with its interval, under four ways to choose a fold's threshold.

    `fixed`: THRESHOLD. `nested`: the best on the out-of-fold predictions of the repeat's other
    folds: patients whom the scored model has trained on, predicted by models that have trained on
    this fold's. So no threshold has seen a label that it is applied to, but it is not strictly
    nested: that would be training every model again within each fold. `nested_95`: likewise the
    highest that calls 95 % of the tumoral ones (`sensitive_threshold`); the sensitivity reached is
    another, and stands beside the specificity.
    `best_on_fold`: the best on the scored patients themselves, as some papers do: `invalid`, and
    here to show what it flatters by.
    """
    repeat = predictions["fold"] // folds_per_repeat
    nested: dict[int, float] = {}
    sensitive: dict[int, float] = {}
    own: dict[int, float] = {}
    for fold in sorted(predictions["fold"].unique().tolist()):
        here = predictions["fold"] == fold
        rows, others = predictions[here], predictions[(repeat == fold // folds_per_repeat) & ~here]
        nested[fold], own[fold] = best_threshold(others), best_threshold(rows)
        sensitive[fold] = sensitive_threshold(
            others["label"].to_numpy(), others["probability"].to_numpy()
        )
    probability, folds = predictions["probability"], predictions["fold"]

    def right(called: pd.Series) -> dict[int, tuple[float, int]]:
        return _right(predictions["label"], called, repeat.nunique())

    return {
        "fixed": {"balanced_accuracy": _accuracy(right(probability > THRESHOLD))},
        "nested": {
            "balanced_accuracy": _accuracy(right(probability > folds.map(nested))),
            "thresholds": list(nested.values()),
        },
        "nested_95": _rates(right(probability >= folds.map(sensitive)))
        | {"thresholds": list(sensitive.values())},
        "best_on_fold": {
            "balanced_accuracy": _accuracy(right(probability > folds.map(own))),
            "invalid": True,
        },
    }


def best_threshold(rows: pd.DataFrame) -> float:
    """The threshold of highest balanced accuracy on `rows`; of several, the nearest to THRESHOLD.

    Candidates lie halfway between neighbouring probabilities. THRESHOLD where a class is absent.
    """
    labels, probabilities = rows["label"].to_numpy(), rows["probability"].to_numpy()
    if len(np.unique(labels)) < 2:
        return THRESHOLD
    known = np.unique(probabilities)
    candidates = np.concatenate([[THRESHOLD], (known[1:] + known[:-1]) / 2])
    called = probabilities > candidates[:, None]
    accuracy = (called[:, labels == 1].mean(axis=1) + (~called[:, labels == 0]).mean(axis=1)) / 2
    best = candidates[accuracy >= accuracy.max() - 1e-12]
    return float(best[np.abs(best - THRESHOLD).argmin()])


def _right(labels: pd.Series, called: pd.Series, repeats: int) -> dict[int, tuple[float, int]]:
    """By label, how many patients are called rightly on average over repeats, and of how many."""
    right = called == labels
    return {
        label: (right[labels == label].sum() / repeats, int((labels == label).sum()) // repeats)
        for label in (0, 1)
    }


def _accuracy(right: dict[int, tuple[float, int]]) -> dict[str, float]:
    value = float(np.mean([hits / n if n else np.nan for hits, n in right.values()]))
    return {"value": value} | balanced_accuracy_interval(*right[1], *right[0])._asdict()


def _rates(right: dict[int, tuple[float, int]]) -> dict[str, Any]:
    return {
        "sensitivity": proportion(*right[1])._asdict(),
        "specificity": proportion(*right[0])._asdict(),
    }
