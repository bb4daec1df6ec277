"""Scores of all patients and of the hard stratum, with those of baselines in the same folds."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from lymphoml.evaluation.intervals import proportion
from lymphoml.evaluation.metrics import THRESHOLD
from lymphoml.evaluation.paired import paired_differences
from lymphoml.evaluation.pooled import pool

REFERENCE = "logistic_regression"  # of `gain`: the clinical values alone
IMAGE_REFERENCES = ("morphology", "random_features")  # of `image_gain`: images without training
MIN_GROUP_SIZE = 10  # patients of a class, below which its rate is not estimable


def score_strata(
    predictions: pd.DataFrame,
    strata: pd.DataFrame,
    baselines: pd.DataFrame | None,
    folds_per_repeat: int,
) -> dict[str, Any]:
    """Return `scores`, `baselines`, `gain` and `image_gain`, each by stratum: `all` and `hard`.

    Takes the tables of `summarise`. A stratum without patients is None, as is a gain without its
    reference. `image_gain` is over the image baseline of the highest AUROC.
    """
    hard = None
    if "hard" in strata:
        hard = predictions[predictions["patient"].map(strata["hard"]) == "1"]
    parts: dict[str, pd.DataFrame | None] = {"all": predictions, "hard": hard}
    scores = {part: _pool(rows, folds_per_repeat) for part, rows in parts.items()}
    if baselines is None:
        return {"scores": scores, "baselines": {}, "gain": None, "image_gain": None}
    joined = {
        part: None if rows is None else rows.merge(baselines, on=["patient", "fold"])
        for part, rows in parts.items()
    }
    of_baselines = {
        name: {
            part: _pool(None if rows is None else rows.assign(probability=rows[name]),
                        folds_per_repeat)
            for part, rows in joined.items()
        }
        for name in baselines.columns
        if name not in ("patient", "fold")
    }  # fmt: skip
    images = [name for name in IMAGE_REFERENCES if name in of_baselines]
    best = max(images, key=lambda name: of_baselines[name]["all"]["auroc"]["value"], default=None)
    clinical = REFERENCE if REFERENCE in of_baselines else None
    return {
        "scores": scores,
        "baselines": of_baselines,
        "gain": _gains(joined, clinical, folds_per_repeat),
        "image_gain": _gains(joined, best, folds_per_repeat),
    }


def _pool(rows: pd.DataFrame | None, folds_per_repeat: int) -> Any:
    return None if rows is None or rows.empty else pool(rows, folds_per_repeat)


def _gains(
    parts: Mapping[str, pd.DataFrame | None], reference: str | None, folds_per_repeat: int
) -> dict[str, Any] | None:
    """Return by part the paired differences between `probability` and the column `reference`."""
    if reference is None:
        return None
    gains: dict[str, Any] = {"reference": reference}
    for part, rows in parts.items():
        gains[part] = None
        if rows is not None and rows["label"].nunique() == 2:
            rows = rows.assign(repeat=rows["fold"] // folds_per_repeat)
            rows = rows.sort_values(["repeat", "patient"])
            labels, candidate, baseline = (
                rows[column].to_numpy().reshape(rows["repeat"].nunique(), -1)
                for column in ("label", "probability", reference)
            )
            differences = paired_differences(labels[0], candidate, baseline)
            gains[part] = {name: each._asdict() for name, each in differences.items()}
    return gains


def averaged(
    predictions: pd.DataFrame,
    strata: pd.DataFrame,
    baselines: pd.DataFrame | None,
    folds_per_repeat: int,
) -> dict[str, Any] | None:
    """Return `score_strata` of each patient's mean over `repeats`; None of a single repeat.

    These estimate the mean of several models, as `predict` gives it to a new patient, from the
    models that did not train on the patient: one per repeat.
    """
    repeats = int(predictions["fold"].max()) // folds_per_repeat + 1
    if repeats == 1:
        return None
    means = None if baselines is None else over_repeats(baselines)
    return {"repeats": repeats} | score_strata(over_repeats(predictions), strata, means, 1)


def over_repeats(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per patient, all of fold 0: the means of the other columns."""
    return table.drop(columns="fold").groupby("patient").mean().assign(fold=0).reset_index()


def subgroups(predictions: pd.DataFrame, groups: pd.DataFrame) -> list[dict[str, Any]]:
    """Return sensitivity and specificity for each value of each column of `groups`.

    `groups` is indexed by patient. Over repeats a patient counts by the rate of right calls. A rate
    is None below MIN_GROUP_SIZE patients of its class, else value, low, high (Wilson, 95 %).
    """
    right = (predictions["probability"] > THRESHOLD) == predictions["label"]
    patients = predictions[["patient", "label"]].assign(right=right)
    patients = patients.groupby("patient").mean().join(groups)
    return [
        {"by": by, "group": str(value)} | _rates(rows)
        for by in groups.columns
        for value, rows in patients.groupby(by, sort=True)
    ]


def _rates(rows: pd.DataFrame) -> dict[str, Any]:
    rates: dict[str, Any] = {}
    for label, name, rate in ((1, "n_tumoral", "sensitivity"), (0, "n_reactive", "specificity")):
        right = rows["right"][rows["label"] == label]
        rates[name] = n = len(right)
        estimable = n >= MIN_GROUP_SIZE
        rates[rate] = proportion(float(right.sum()), n)._asdict() if estimable else None
    return rates
