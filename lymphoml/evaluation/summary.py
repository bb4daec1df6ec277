"""The content of a run folder's `metrics.json`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.evaluation.intervals import proportion
from lymphoml.evaluation.metrics import SCORES, THRESHOLD, thresholds
from lymphoml.evaluation.paired import paired_differences
from lymphoml.evaluation.pooled import pool, score_rows, split_std

HEADLINE = ("balanced_accuracy", "auroc")
REFERENCE = "logistic_regression"  # of `gain`: the clinical values alone
IMAGE_REFERENCES = ("morphology", "random_features")  # of `image_gain`: images without training
MIN_GROUP_SIZE = 10  # patients of a class, below which its rate is not estimable


def summarise(
    predictions: pd.DataFrame, histories: Mapping[int, pd.DataFrame], folds_per_repeat: int,
    strata: pd.DataFrame | None = None, baselines: pd.DataFrame | None = None,
    hard_max: float | None = None, persons: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return all scores of a run's out-of-fold predictions, ready for JSON: None where undefined.

    `predictions` has the columns patient, fold, label, probability; `histories` holds each fold's
    `history.csv`. Folds are numbered through all repeats: the repeat is fold // folds_per_repeat.
    `strata`, indexed by patient, has a column per grouping; its column `hard` is "1" inside the
    hard stratum, which ends at `hard_max`; `records of the person`, where one has several, is "one"
    or "several"; `site` gives `sites`. `persons` is kept as it is. `baselines` has the columns
    patient, fold, and the probabilities of a baseline per column. `averaged` scores each patient's
    mean over repeats: of several models, as `predict` gives it, none trained on the patient.

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
    repeats, averaged = int(predictions["fold"].max()) // folds_per_repeat + 1, None
    if repeats > 1:
        means = None if baselines is None else over_repeats(baselines)
        averaged = {"repeats": repeats} | score_strata(over_repeats(predictions), strata, means, 1)
    summary = {
        "n_patients": predictions["patient"].nunique(),
        **{name: by_stratum["scores"]["all"][name] for name in HEADLINE},
        "folds": folds,
        "best_epoch_balanced_accuracy": {"mean": best.mean(), "std": best.std(ddof=1)},
        "best_epoch_gap": best.mean() - reported.mean(),
        **by_stratum,
        "averaged": averaged,
        "hard_max": hard_max,
        "split_std": split_std(predictions, folds_per_repeat) if repeats > 1 else None,
        "thresholds": thresholds(predictions, folds_per_repeat),
        "persons": persons,
        "sites": _sites(predictions, strata, folds_per_repeat),
        "subgroups": subgroups(predictions, strata),
    }
    return to_json(summary)


def _fold(rows: pd.DataFrame) -> dict[str, Any]:
    """Return the scores of one fold, the headline scores with the limits of their intervals."""
    scores: dict[str, Any] = dict(score_rows(rows))
    for name, limits in pool(rows, 1, HEADLINE).items():
        scores |= {f"{name}_low": limits["low"], f"{name}_high": limits["high"]}
    return scores


def _sites(
    predictions: pd.DataFrame, strata: pd.DataFrame, folds_per_repeat: int
) -> list[dict[str, Any]] | None:
    """Return the scores of each site's patients; those that need the class it lacks are NaN."""
    if "site" not in strata:
        return None
    return [
        {"site": str(site), "n": rows["patient"].nunique()}
        | pool(rows, folds_per_repeat, (*HEADLINE, "sensitivity", "specificity"))
        for site, rows in predictions.groupby(predictions["patient"].map(strata["site"]))
    ]


def _best_epoch(history: pd.DataFrame) -> dict[str, float]:
    """Return the first epoch of the highest validation balanced accuracy, and that score."""
    name = "val/balanced_accuracy"
    scored = history.dropna(subset=name)
    if scored.empty:
        return {"best_epoch": math.nan, "best_epoch_balanced_accuracy": math.nan}
    best = scored.iloc[int(scored[name].to_numpy().argmax())]
    return {"best_epoch": int(best["epoch"]), "best_epoch_balanced_accuracy": float(best[name])}


def score_strata(
    predictions: pd.DataFrame, strata: pd.DataFrame, baselines: pd.DataFrame | None,
    folds_per_repeat: int,
) -> dict[str, Any]:  # fmt: skip
    """Return `scores`, `baselines`, `gain` and `image_gain`, each by stratum: `all` and `hard`.

    Takes the tables of `summarise`. None: a stratum without patients, a gain without its reference.
    `image_gain` is over the image baseline of the highest AUROC. `single_records` are the HEADLINE
    scores without persons who have several records, None where no person has.
    """
    is_hard = predictions["patient"].map(strata["hard"]) == "1" if "hard" in strata else slice(0)
    parts = {"all": predictions, "hard": predictions[is_hard]}
    if baselines is not None:
        keys = ["patient", "fold"]
        parts = {name: rows.merge(baselines, on=keys) for name, rows in parts.items()}

    def scores(column: str, ids: Any = None, names: Sequence[str] = SCORES) -> dict[str, Any]:
        pooled = {}
        for part, rows in parts.items():
            kept = rows if ids is None else rows[rows["patient"].isin(ids)]
            kept = kept.assign(probability=kept[column])
            pooled[part] = pool(kept, folds_per_repeat, names) if len(kept) else None
        return pooled

    single = None
    if "records of the person" in strata:
        ids = strata.index[strata["records of the person"] == "one"]
        single = scores("probability", ids, HEADLINE)
    names = [] if baselines is None else list(baselines.columns.drop(["patient", "fold"]))
    of_baselines = {name: scores(name) for name in names}
    images = [name for name in IMAGE_REFERENCES if name in of_baselines]
    best = max(images, key=lambda name: of_baselines[name]["all"]["auroc"]["value"], default=None)
    clinical = REFERENCE if REFERENCE in of_baselines else None
    return {
        "scores": scores("probability"), "single_records": single, "baselines": of_baselines,
        "gain": _gains(parts, clinical, folds_per_repeat),
        "image_gain": _gains(parts, best, folds_per_repeat),
    }  # fmt: skip


def _gains(
    parts: Mapping[str, pd.DataFrame], reference: str | None, folds_per_repeat: int
) -> dict[str, Any] | None:
    """Return by part the paired differences between `probability` and the column `reference`."""
    if reference is None:
        return None
    gains: dict[str, Any] = {"reference": reference} | dict.fromkeys(parts)
    for part, rows in parts.items():
        if rows["label"].nunique() == 2:
            repeat = rows["fold"] // folds_per_repeat
            ordered = rows.assign(repeat=repeat).sort_values(["repeat", "patient"])
            labels, candidate, baseline = (
                ordered[column].to_numpy().reshape(repeat.nunique(), -1)
                for column in ("label", "probability", reference)
            )
            differences = paired_differences(labels[0], candidate, baseline)
            gains[part] = {name: each._asdict() for name, each in differences.items()}
    return gains


def over_repeats(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per patient, all of fold 0: means, and one reason for being outside."""
    patients = table.drop(columns="fold").groupby("patient")
    means = patients.mean(numeric_only=True).assign(fold=0)
    if "outside_range" in table:
        means["outside_range"] = patients["outside_range"].max()  # a reason, if any has one
    return means.reset_index()


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


def to_json(value: Any) -> Any:
    """Return plain Python values: numpy's numbers converted, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
