"""What the table alone says, and the number of images."""

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from lymphoml.evaluation.thresholds import best_threshold
from lymphoml.runs.baselines.folds import Array, Fold


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
    train, held_out = fold.clinical()
    return model.fit(train, fold.labels).predict_proba(held_out)[:, 1]
