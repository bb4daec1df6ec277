"""Baselines: what can be had in the same folds without training a network.

Their settings are fixed, so that they are the same reference whatever the network is.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from lymphoml.data.cache import hash_images
from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.cohort import Cohort
from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.folds import count_groups, training_split
from lymphoml.data.settings import DataConfig
from lymphoml.evaluation.metrics import best_threshold
from lymphoml.features.blocks import make_blocks
from lymphoml.features.feature_cache import load_features

Array = np.ndarray
IMAGE_FEATURES = {"morphology": "morphology", "random_features": "random_resnet18"}  # by baseline
FOREST = {"min_samples_leaf": 5, "class_weight": "balanced", "random_state": 0}
INNER_FOLDS = 5  # of the training patients; fewer where a class has fewer people


class Fold(NamedTuple):
    """One fold's patients, and how their clinical values are read."""

    data: DataConfig
    cohort: Cohort
    train: list[str]
    held_out: list[str]

    @property
    def labels(self) -> pd.Series:
        """Of the training patients."""
        return self.cohort.table["label"].loc[self.train]

    @property
    def people(self) -> int:
        """Training people in the smaller class."""
        return int(count_groups(self.cohort.table.loc[self.train]).min())

    def clinical(self) -> tuple[Array, Array]:
        """Return those of training and held-out patients: standardised, positive ones logged."""
        data, table, columns = self.data, self.cohort.table, dict(self.data.columns)
        for name, each in columns.items():
            if getattr(each, "positive", False):
                columns[name] = each.model_copy(update={"log": True})
        train, held_out = table.loc[self.train], table.loc[self.held_out]
        encoder = ClinicalEncoder.fit(train, columns, data.clinical, True, data.missing)
        return encoder.transform(train), encoder.transform(held_out)


def baseline_predictions(
    data: DataConfig, cohort: Cohort, folds: pd.DataFrame, features: Mapping[str, FeatureStore],
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Return out-of-fold probabilities: patient, fold, and a column for each baseline.

    A baseline whose columns are not configured is left out. Each of `features`, feature vectors of
    every image, is one more, left out where a fold has too few people to stack on.
    """
    baselines: dict[str, Callable[[Fold], Array]] = {"prevalence": prevalence, "bag_size": bag_size}
    if data.hard_stratum and cohort.table[data.hard_stratum.column].nunique() > 1:
        baselines["count_rule"] = partial(count_rule, column=data.hard_stratum.column)
    if data.clinical:
        logistic = LogisticRegression(class_weight="balanced")
        baselines["logistic_regression"] = partial(clinical, model=logistic)
        forest = RandomForestClassifier(100, **FOREST)
        baselines["random_forest"] = partial(clinical, model=forest)
    numbers = sorted(folds["fold"].unique().tolist())
    of_run = data, cohort.table, folds
    splits = [Fold(data, cohort, *training_split(*of_run, each, seed)) for each in numbers]
    if features and all(fold.people >= 2 for fold in splits):  # the inner folds need two
        for name, store in features.items():
            statistics = bag_statistics(store, list(cohort.table.index))
            baselines[name] = partial(stacking, statistics=statistics)
    parts = []
    for number, fold in zip(numbers, splits, strict=True):
        columns = {name: predict(fold) for name, predict in baselines.items()}
        parts.append(pd.DataFrame({"patient": fold.held_out, "fold": number} | columns))
    return pd.concat(parts, ignore_index=True)


def baseline_features(data: DataConfig, cohort: Cohort) -> dict[str, FeatureStore]:
    """Return those of `data.image_baselines` by name; computed once, then cached."""
    names, images = data.image_baselines, cohort.images
    blocks = [block for (block,) in make_blocks([IMAGE_FEATURES[name] for name in names], images)]
    return dict(zip(names, load_features(blocks, hash_images(images), data.cache), strict=True))


def prevalence(fold: Fold) -> Array:
    """Return the share of tumoral patients in training, for everyone."""
    return np.full(len(fold.held_out), fold.labels.mean())


def count_rule(fold: Fold, column: str) -> Array:
    """Apply the training patients' best threshold on a column: the probability there is 0.5."""
    values = fold.cohort.table[column]
    values = values.fillna(values.loc[fold.train].median())
    train = values.loc[fold.train]
    threshold = best_threshold(pd.DataFrame({"label": fold.labels, "probability": train}))
    return expit((values.loc[fold.held_out] - threshold).to_numpy() / (train.std() or 1.0))


def bag_size(fold: Fold) -> Array:
    """Fit a logistic regression to the logarithm of the number of images, classes balanced."""
    train, held_out = (
        np.log([[len(fold.cohort.images[patient])] for patient in patients])
        for patients in (fold.train, fold.held_out)
    )
    fitted = LogisticRegression(class_weight="balanced").fit(train, fold.labels)
    return fitted.predict_proba(held_out)[:, 1]


def clinical(fold: Fold, model: ClassifierMixin) -> Array:
    """Fit `model` to the configured clinical columns."""
    train, held_out = fold.clinical()
    return model.fit(train, fold.labels).predict_proba(held_out)[:, 1]


def stacking(fold: Fold, statistics: pd.DataFrame) -> Array:
    """Fit a logistic regression to the images' logit and the clinical values (Wolpert 1992).

    A training patient's logit comes from a model of the inner folds that did not train on that
    patient, as no model has trained on a held-out one: a logit of the patient's own model would be
    overconfident, and the regression trust it too much. Classes are balanced.
    """
    groups = fold.cohort.table["group"].loc[fold.train]
    train, held_out = (statistics.loc[ids].to_numpy() for ids in (fold.train, fold.held_out))
    images = make_pipeline(StandardScaler(), SVC(class_weight="balanced"))  # a Gaussian kernel
    inner = StratifiedGroupKFold(min(INNER_FOLDS, fold.people), shuffle=True, random_state=0)
    logits = cross_val_predict(
        images, train, fold.labels, groups=groups, cv=inner, method="decision_function"
    )
    unseen = images.fit(train, fold.labels).decision_function(held_out)
    clinical, clinical_unseen = fold.clinical()
    fusion = LogisticRegression(class_weight="balanced")
    fusion.fit(np.column_stack([logits, clinical]), fold.labels)
    return fusion.predict_proba(np.column_stack([unseen, clinical_unseen]))[:, 1]


def bag_statistics(store: FeatureStore, patients: Sequence[str]) -> pd.DataFrame:
    """Return mean and standard deviation of each feature over a bag, a row a patient.

    How alike a patient's cells are is what a cytologist looks at: a clone is uniform. Neither grows
    nor shrinks with the number of images.
    """
    bags = [store.bag(patient).astype(float) for patient in patients]
    rows = [np.concatenate([bag.mean(axis=0), bag.std(axis=0)]) for bag in bags]
    return pd.DataFrame(rows, index=list(patients))
