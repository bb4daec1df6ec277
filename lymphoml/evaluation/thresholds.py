"""Where a probability begins to be called tumoral: fixed, chosen elsewhere, or chosen to please."""

from typing import Any

import numpy as np
import pandas as pd

from lymphoml.evaluation.intervals import balanced_accuracy_interval
from lymphoml.evaluation.metrics import THRESHOLD


def thresholds(predictions: pd.DataFrame, folds_per_repeat: int) -> dict[str, Any]:
    """Pooled balanced accuracy with its interval under three ways to choose a fold's threshold.

    `fixed`: THRESHOLD. `nested`: the best on the out-of-fold predictions of the repeat's other
    folds, patients whom the scored model has trained on and other models predicted; the fold's own
    labels have no say in it. `best_on_fold`: the best on the scored patients themselves, as some
    papers do: `invalid`, and here to show what it flatters by.
    """
    repeat = predictions["fold"] // folds_per_repeat
    nested: dict[int, float] = {}
    own: dict[int, float] = {}
    for fold in sorted(predictions["fold"].unique().tolist()):
        here = predictions["fold"] == fold
        rows, others = predictions[here], predictions[(repeat == fold // folds_per_repeat) & ~here]
        nested[fold], own[fold] = best_threshold(others), best_threshold(rows)
    fixed = dict.fromkeys(nested, THRESHOLD)
    score = {
        name: _accuracy(predictions, chosen, folds_per_repeat)
        for name, chosen in (("fixed", fixed), ("nested", nested), ("best_on_fold", own))
    }
    return {
        "fixed": {"balanced_accuracy": score["fixed"]},
        "nested": {
            "balanced_accuracy": score["nested"],
            "thresholds": list(nested.values()),
        },
        "best_on_fold": {"balanced_accuracy": score["best_on_fold"], "invalid": True},
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


def _accuracy(
    predictions: pd.DataFrame, chosen: dict[int, float], folds_per_repeat: int
) -> dict[str, float]:
    right = (predictions["probability"] > predictions["fold"].map(chosen)) == predictions["label"]
    repeats = predictions["fold"].floordiv(folds_per_repeat).nunique()
    counts = {}
    for label in (0, 1):
        rows = right[predictions["label"] == label]
        counts[label] = (rows.sum() / repeats, len(rows) // repeats)
    value = float(np.mean([hits / n if n else np.nan for hits, n in counts.values()]))
    return {"value": value} | balanced_accuracy_interval(*counts[1], *counts[0])._asdict()
