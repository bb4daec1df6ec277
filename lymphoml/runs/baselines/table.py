"""What can be had without training a network, in the same folds: the floor beside every score."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd

from lymphoml.data.cohort import Cohort
from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.folds import split
from lymphoml.features.extractors import computed
from lymphoml.runs.baselines.folds import Array, Fold
from lymphoml.runs.baselines.stacking import bag_statistics, can_stack, stacked
from lymphoml.runs.baselines.tabular import (
    bag_size,
    count_rule,
    logistic_regression,
    prevalence,
    random_forest,
)


def baseline_predictions(
    data: dict[str, Any],
    cohort: Cohort,
    folds: pd.DataFrame,
    features: Mapping[str, FeatureStore] | None = None,
) -> pd.DataFrame:
    """Out-of-fold probabilities: patient, fold, and a column for each baseline.

    Their settings are fixed: they stay the same floor whatever the network is. A baseline whose
    columns are not configured is left out. Each of `features`, rows of every image, is one more,
    left out where a fold has too few people to stack on.
    """
    asked: dict[str, Callable[[Fold], Array]] = {"prevalence": prevalence, "bag_size": bag_size}
    if data["hard_stratum"] and cohort.table[data["hard_stratum"]["column"]].nunique() > 1:
        asked["count_rule"] = count_rule
    if data["clinical"]:
        asked |= {"logistic_regression": logistic_regression, "random_forest": random_forest}
    numbers = sorted(folds["fold"].unique().tolist())
    every = [Fold(data, cohort, *split(folds, number, data["folds"])) for number in numbers]
    if features and all(map(can_stack, every)):
        for name, store in features.items():
            statistics = bag_statistics(store, list(cohort.table.index))
            asked[name] = partial(stacked, statistics=statistics)
    parts = []
    for number, fold in zip(numbers, every, strict=True):
        columns = {name: predict(fold) for name, predict in asked.items()}
        parts.append(pd.DataFrame({"patient": fold.held_out, "fold": number} | columns))
    return pd.concat(parts, ignore_index=True)


# The images' features that baselines are made of: each cell's measures, an untrained network's.

KINDS = {"morphology": "morphology", "random_features": "untrained"}  # baseline: its rows


def baseline_features(data: dict[str, Any], cohort: Cohort) -> dict[str, FeatureStore]:
    """By the names in `data.image_baselines`; computed once, then found in the cache."""
    return {
        name: computed([KINDS[name]], cohort.images, data)[0] for name in data["image_baselines"]
    }
