"""Scores of everybody and of the hard stratum, beside those of baselines in the same folds."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from lymphoml.evaluation.pooled import pool
from lymphoml.evaluation.resampling import paired_differences

REFERENCE = "logistic_regression"  # of the gain: what the clinical values alone are worth
# What images are worth without training a network: the best of them is a second reference.
IMAGE_REFERENCES = ("morphology", "random_features")


def score_strata(
    predictions: pd.DataFrame,
    strata: pd.DataFrame,
    baselines: pd.DataFrame | None,
    folds_per_repeat: int,
) -> dict[str, Any]:
    """By `scores`, `baselines`, `gain` and `image_gain`; tables as `summarise` takes them.

    Each tells of `everybody` and of `hard`, None where no patient is in it. A gain is None without
    its reference.
    """
    parts = _parts(predictions, strata)
    scores = {name: _pooled(rows, folds_per_repeat) for name, rows in parts.items()}
    beside: dict[str, Any] = {"baselines": {}, "gain": None, "image_gain": None}
    if baselines is not None:
        beside = _beside(parts, baselines, folds_per_repeat)
    return {"scores": scores} | beside


def _parts(predictions: pd.DataFrame, strata: pd.DataFrame) -> dict[str, pd.DataFrame | None]:
    hard = None
    if "hard" in strata:
        hard = predictions[predictions["patient"].map(strata["hard"]) == "1"]
    return {"everybody": predictions, "hard": hard}


def _pooled(rows: pd.DataFrame | None, folds_per_repeat: int) -> dict[str, Any] | None:
    return None if rows is None or rows.empty else pool(rows, folds_per_repeat)


def _beside(
    parts: Mapping[str, pd.DataFrame | None], baselines: pd.DataFrame, folds_per_repeat: int
) -> dict[str, Any]:
    """The baselines' scores on the same patients, and what the run gains over two of them.

    That of images with the highest AUROC is taken as the second: a choice in the baseline's favour.
    """
    names = [name for name in baselines.columns if name not in ("patient", "fold")]
    found: dict[str, Any] = {name: {} for name in names}
    joined_parts = {}
    for part, rows in parts.items():
        joined = None if rows is None else rows.merge(baselines, on=["patient", "fold"])
        for name in names:
            asked = None if joined is None else joined.assign(probability=joined[name])
            found[name][part] = _pooled(asked, folds_per_repeat)
        joined_parts[part] = joined

    def gain(reference: str | None) -> dict[str, Any] | None:
        if reference not in names:
            return None
        told = {
            part: _gain(rows, reference, folds_per_repeat) for part, rows in joined_parts.items()
        }
        return {"reference": reference} | told

    images = {
        name: found[name]["everybody"]["auroc"]["value"]
        for name in IMAGE_REFERENCES
        if name in names
    }
    best = max(images, key=lambda name: images[name]) if images else None
    return {"baselines": found, "gain": gain(REFERENCE), "image_gain": gain(best)}


def _gain(
    rows: pd.DataFrame | None, reference: str, folds_per_repeat: int
) -> dict[str, Any] | None:
    if rows is None or rows["label"].nunique() < 2:
        return None
    ordered = rows.assign(repeat=rows["fold"] // folds_per_repeat).sort_values(
        ["repeat", "patient"]
    )
    shape = (ordered["repeat"].nunique(), -1)
    labels, ours, theirs = (
        ordered[column].to_numpy().reshape(shape) for column in ("label", "probability", reference)
    )
    differences = paired_differences(labels[0], ours, theirs)
    return {name: difference._asdict() for name, difference in differences.items()}
