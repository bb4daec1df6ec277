"""Scores of out-of-fold predictions: the content of a run folder's `metrics.json`."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lymphoml.evaluation.intervals import auroc_interval, balanced_accuracy_interval, delong

THRESHOLD = 0.5  # a probability above it is called tumoral; fixed, since tuning it is optimistic


def score_fold(labels: ArrayLike, probabilities: ArrayLike) -> dict[str, float]:
    """Scores of one set of predictions; NaN where a score needs a class that is absent.

    `labels` are 0 or 1.
    """
    positive = np.asarray(labels) == 1
    probability = np.asarray(probabilities, dtype=float)
    called = probability > THRESHOLD
    sensitivity = _mean(called[positive])
    specificity = _mean(~called[~positive])
    return {
        "n": len(positive),
        "n_positive": int(positive.sum()),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "auroc": delong(positive, probability)[0],
        "brier": _mean((probability - positive) ** 2),
    }


def summarise(
    predictions: pd.DataFrame, histories: Mapping[int, pd.DataFrame], folds_per_repeat: int
) -> dict[str, Any]:
    """The content of `metrics.json`, ready for JSON: plain numbers, None where undefined.

    `predictions` has the columns patient, fold, label, probability, and `histories` each fold's
    `history.csv`. Folds are numbered through all repeats, so a fold's repeat is
    `fold // folds_per_repeat`. The top-level scores are those of `pool`.

    `best_epoch_balanced_accuracy` picks each fold's epoch on the patients it is scored on, as the
    paper does: optimistic by 0.03 to 0.10. Its standard deviation is the sample's (n - 1).
    """
    folds = [
        {"fold": fold} | _score(predictions[predictions["fold"] == fold]) | _best_epoch(history)
        for fold, history in sorted(histories.items())
    ]
    best = pd.Series([fold["best_epoch_balanced_accuracy"] for fold in folds], dtype=float)
    return _plain(
        {
            "n_patients": predictions["patient"].nunique(),
            "folds": folds,
            **pool(predictions, folds_per_repeat),
            "best_epoch_balanced_accuracy": {"mean": best.mean(), "std": best.std(ddof=1)},
            # What the same answer for every patient scores, by definition of balanced accuracy.
            "baseline": {"majority": 0.5},
        }
    )


def pool(predictions: pd.DataFrame, folds_per_repeat: int) -> dict[str, Any]:
    """Balanced accuracy and AUROC of out-of-fold predictions: value, low and high of 95 %.

    A repeat's predictions are pooled over its folds, and the scores averaged over repeats. The
    intervals are those of one repeat, since repeating adds no patient.
    """
    repeats = [rows for _, rows in predictions.groupby(predictions["fold"] // folds_per_repeat)]
    scores = [_score(rows) for rows in repeats]
    pooled = {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}
    variance = float(np.mean([delong(rows["label"], rows["probability"])[1] for rows in repeats]))
    positives = round(pooled["n_positive"])
    negatives = round(pooled["n"]) - positives
    of_accuracy = balanced_accuracy_interval(
        pooled["sensitivity"] * positives, positives, pooled["specificity"] * negatives, negatives
    )
    of_auroc = auroc_interval(pooled["auroc"], variance, positives, negatives)
    return _plain(
        {
            "balanced_accuracy": {"value": pooled["balanced_accuracy"]} | of_accuracy._asdict(),
            "auroc": {"value": pooled["auroc"]} | of_auroc._asdict(),
        }
    )


def _score(rows: pd.DataFrame) -> dict[str, float]:
    return score_fold(rows["label"], rows["probability"])


def _best_epoch(history: pd.DataFrame) -> dict[str, float]:
    """The first epoch of the highest validation balanced accuracy, and that score."""
    scored = history.dropna(subset="val/balanced_accuracy")
    if scored.empty:
        return {"best_epoch": math.nan, "best_epoch_balanced_accuracy": math.nan}
    best = int(scored["val/balanced_accuracy"].to_numpy().argmax())
    return {
        "best_epoch": int(scored["epoch"].iloc[best]),
        "best_epoch_balanced_accuracy": float(scored["val/balanced_accuracy"].iloc[best]),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan


def _plain(value: Any) -> Any:
    """Numpy's numbers as Python's and NaN as None, since JSON knows neither."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
