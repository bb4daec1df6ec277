"""Scores of everybody and of the hard stratum, beside those of baselines in the same folds."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from lymphoml.evaluation.intervals import proportion
from lymphoml.evaluation.metrics import THRESHOLD
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

    Each tells of `all` and of `hard`, None where no patient is in it. A gain is None without
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
    return {"all": predictions, "hard": hard}


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
        name: found[name]["all"]["auroc"]["value"] for name in IMAGE_REFERENCES if name in names
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


# Each patient's mean over the repeats of a cross-validation, scored once.


def averaged(
    predictions: pd.DataFrame,
    strata: pd.DataFrame,
    baselines: pd.DataFrame | None,
    folds_per_repeat: int,
) -> dict[str, Any] | None:
    """`score_strata` of the mean probabilities, and how many `repeats`; None of a single one.

    `predict` gives a new patient the mean probability of all models of a run. The other scores are
    of one model at a time; these are of such a mean, from fewer models: one a repeat, none of which
    has trained on the patient. The models of a repeat's other folds have, and are left out. As a
    patient belongs to no one fold here, no threshold can be taken from the other folds.
    """
    repeats = int(predictions["fold"].max()) // folds_per_repeat + 1
    if repeats == 1:
        return None
    means = None if baselines is None else over_repeats(baselines)
    return {"repeats": repeats} | score_strata(over_repeats(predictions), strata, means, 1)


def over_repeats(table: pd.DataFrame) -> pd.DataFrame:
    """A row a patient, all of fold 0: the means of the other columns."""
    return table.drop(columns="fold").groupby("patient").mean().assign(fold=0).reset_index()


# Sensitivity and specificity in parts of the cohort, where there are patients enough to say.

FEWEST = 10  # patients of a class, below which its rate is not estimable


def subgroups(predictions: pd.DataFrame, groups: pd.DataFrame) -> list[dict[str, Any]]:
    """A row for each value of each column of `groups`, which is indexed by patient.

    Of a patient's repeats the rate of right calls counts. A rate is None under FEWEST patients of
    its class; else value, low and high of Wilson's 95 % interval.
    """
    right = (predictions["probability"] > THRESHOLD) == predictions["label"]
    patients = pd.DataFrame(
        {"patient": predictions["patient"], "label": predictions["label"], "right": right}
    )
    patients = patients.groupby("patient").mean().join(groups)
    return [
        {"by": by, "group": str(value)} | _rates(rows)
        for by in groups.columns
        for value, rows in patients.groupby(by, sort=True)
    ]


def _rates(rows: pd.DataFrame) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for label, name, rate in ((1, "n_tumoral", "sensitivity"), (0, "n_reactive", "specificity")):
        right = rows["right"][rows["label"] == label]
        found[name] = n = len(right)
        found[rate] = None
        if n >= FEWEST:
            found[rate] = proportion(float(right.sum()), n)._asdict()
    return found
