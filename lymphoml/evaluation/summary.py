"""The content of a run folder's `metrics.json`."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.evaluation.metrics import score_fold
from lymphoml.evaluation.pooled import pool, split_std
from lymphoml.evaluation.strata import averaged, score_strata, subgroups
from lymphoml.evaluation.thresholds import thresholds

HEADLINE = ("balanced_accuracy", "auroc")


def summarise(
    predictions: pd.DataFrame,
    histories: Mapping[int, pd.DataFrame],
    folds_per_repeat: int,
    strata: pd.DataFrame | None = None,
    baselines: pd.DataFrame | None = None,
    hard_max: float | None = None,
) -> dict[str, Any]:
    """Return all scores of a run's out-of-fold predictions, ready for JSON: None where undefined.

    `predictions` has the columns patient, fold, label, probability; `histories` holds each fold's
    `history.csv`. Folds are numbered through all repeats: the repeat is fold // folds_per_repeat.
    `strata`, indexed by patient, has a column per grouping; its column `hard` is "1" inside the
    hard stratum, which ends at `hard_max`. `baselines` has the columns patient, fold, and the
    probabilities of a baseline per column.

    `best_epoch_balanced_accuracy` chooses each fold's epoch on the patients it is scored on, as the
    paper does: optimistic by 0.03 to 0.10. `best_epoch_gap` is that optimism.
    """
    folds = [
        {"fold": fold} | _fold(predictions[predictions["fold"] == fold]) | _best_epoch(history)
        for fold, history in sorted(histories.items())
    ]
    table = pd.DataFrame(folds)[["balanced_accuracy", "best_epoch_balanced_accuracy"]].astype(float)
    best, reported = table["best_epoch_balanced_accuracy"], table["balanced_accuracy"]
    strata = pd.DataFrame() if strata is None else strata
    by_stratum = score_strata(predictions, strata, baselines, folds_per_repeat)
    repeated = predictions["fold"].max() >= folds_per_repeat
    summary = {
        "n_patients": predictions["patient"].nunique(),
        **{name: by_stratum["scores"]["all"][name] for name in HEADLINE},
        "folds": folds,
        "best_epoch_balanced_accuracy": {"mean": best.mean(), "std": best.std(ddof=1)},
        "best_epoch_gap": best.mean() - reported.mean(),
        **by_stratum,
        "averaged": averaged(predictions, strata, baselines, folds_per_repeat),
        "hard_max": hard_max,
        "split_std": split_std(predictions, folds_per_repeat) if repeated else None,
        "thresholds": thresholds(predictions, folds_per_repeat),
        "subgroups": subgroups(predictions, strata),
    }
    return to_json(summary)


def _fold(rows: pd.DataFrame) -> dict[str, Any]:
    """Return the scores of one fold, the headline scores with the limits of their intervals."""
    scores: dict[str, Any] = dict(score_fold(rows["label"], rows["probability"]))
    for name, limits in pool(rows, 1, HEADLINE).items():
        scores |= {f"{name}_low": limits["low"], f"{name}_high": limits["high"]}
    return scores


def _best_epoch(history: pd.DataFrame) -> dict[str, float]:
    """Return the first epoch of the highest validation balanced accuracy, and that score."""
    scored = history.dropna(subset="val/balanced_accuracy")
    if scored.empty:
        return {"best_epoch": math.nan, "best_epoch_balanced_accuracy": math.nan}
    best = int(scored["val/balanced_accuracy"].to_numpy().argmax())
    return {
        "best_epoch": int(scored["epoch"].iloc[best]),
        "best_epoch_balanced_accuracy": float(scored["val/balanced_accuracy"].iloc[best]),
    }


def to_json(value: Any) -> Any:
    """Return plain Python values: numpy's numbers converted, NaN as None."""
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
