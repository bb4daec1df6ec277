"""What can be had without a network, in the same folds: the floor beside every score."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.cohort import Cohort
from lymphoml.data.folds import split
from lymphoml.evaluation.thresholds import best_threshold

Array = np.ndarray


class Fold(NamedTuple):
    data: dict[str, Any]  # the configuration's group of that name
    cohort: Cohort
    train: list[str]
    held_out: list[str]

    @property
    def labels(self) -> pd.Series:
        """Of the training patients."""
        return self.cohort.table["label"].loc[self.train]


def baseline_predictions(data: dict[str, Any], cohort: Cohort, folds: pd.DataFrame) -> pd.DataFrame:
    """Out-of-fold probabilities: patient, fold, and a column for each baseline.

    Their settings are fixed: they stay the same floor whatever the network is. A baseline whose
    columns are not configured is left out.
    """
    asked: dict[str, Callable[[Fold], Array]] = {"prevalence": prevalence, "bag_size": bag_size}
    if data["hard_stratum"] and cohort.table[data["hard_stratum"]["column"]].nunique() > 1:
        asked["count_rule"] = count_rule
    if data["clinical"]:
        asked |= {"logistic_regression": logistic_regression, "random_forest": random_forest}
    parts = []
    for number in sorted(folds["fold"].unique().tolist()):
        fold = Fold(data, cohort, *split(folds, number, data["folds"]))
        columns = {name: predict(fold) for name, predict in asked.items()}
        parts.append(pd.DataFrame({"patient": fold.held_out, "fold": number} | columns))
    return pd.concat(parts, ignore_index=True)


def prevalence(fold: Fold) -> Array:
    """The share of tumoral patients in training: nobody is told apart."""
    return np.full(len(fold.held_out), fold.labels.mean())


def count_rule(fold: Fold) -> Array:
    """A threshold on the column of `data.hard_stratum`, the best of the training patients.

    The probability rises with the value, through 0.5 at the threshold.
    """
    values = fold.cohort.table[fold.data["hard_stratum"]["column"]]
    values = values.fillna(values.loc[fold.train].median())
    known = values.loc[fold.train]
    threshold = best_threshold(pd.DataFrame({"label": fold.labels, "probability": known}))
    return expit((values.loc[fold.held_out] - threshold).to_numpy() / (known.std() or 1.0))


def bag_size(fold: Fold) -> Array:
    """Logistic regression on the logarithm of the number of images, classes weighed equally."""
    train, held_out = (
        np.log([[len(fold.cohort.images[patient])] for patient in patients])
        for patients in (fold.train, fold.held_out)
    )
    fitted = LogisticRegression(class_weight="balanced").fit(train, fold.labels)
    return fitted.predict_proba(held_out)[:, 1]


def logistic_regression(fold: Fold) -> Array:
    """On the configured clinical columns, classes weighed equally."""
    return _clinical(LogisticRegression(class_weight="balanced"), fold)


def random_forest(fold: Fold) -> Array:
    """On the configured clinical columns, classes weighed equally."""
    options = {"min_samples_leaf": 5, "class_weight": "balanced", "random_state": 0}
    return _clinical(RandomForestClassifier(100, **options), fold)


def _clinical(model: ClassifierMixin, fold: Fold) -> Array:
    """Standardised, positive quantities logged."""
    data, table = fold.data, fold.cohort.table
    columns = {
        name: column | ({"log": True} if column.get("positive") else {})
        for name, column in data["columns"].items()
    }
    train, held_out = table.loc[fold.train], table.loc[fold.held_out]
    encoder = ClinicalEncoder.fit(
        train, columns, data["clinical"], standardise=True, missing=data["missing"]
    )
    model.fit(encoder.transform(train), fold.labels)
    return model.predict_proba(encoder.transform(held_out))[:, 1]
