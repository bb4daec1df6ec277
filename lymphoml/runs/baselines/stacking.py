"""Images beside clinical values without a network: a kernel machine, stacked on inner folds."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.folds import people
from lymphoml.runs.baselines.folds import Array, Fold

INNER = 5  # folds of the training patients; fewer where there are fewer people of a class


def can_stack(fold: Fold) -> bool:
    """Inner folds need two people of each class."""
    return bool(_people(fold) >= 2)


def stacked(fold: Fold, statistics: pd.DataFrame) -> Array:
    """Logistic regression on the images' logit and the clinical values (Wolpert 1992).

    The logit a training patient enters with comes from a model of the inner folds that did not
    train on that patient, as no model has trained on a held-out one: a logit of the patient's own
    model would be bolder, and the regression trust it too much. Classes are weighed equally.
    """
    table = fold.cohort.table.loc[fold.train]
    train, held_out = (statistics.loc[ids].to_numpy() for ids in (fold.train, fold.held_out))
    inner = StratifiedGroupKFold(min(INNER, _people(fold)), shuffle=True, random_state=0)
    logits = cross_val_predict(
        image_model(), train, fold.labels, groups=table["group"], cv=inner,
        method="decision_function",
    )  # fmt: skip
    unseen = image_model().fit(train, fold.labels).decision_function(held_out)
    clinical, clinical_unseen = fold.clinical()
    fusion = LogisticRegression(class_weight="balanced")
    fusion.fit(np.column_stack([logits, clinical]), fold.labels)
    return fusion.predict_proba(np.column_stack([unseen, clinical_unseen]))[:, 1]


def image_model() -> Pipeline:
    """A support vector machine with a Gaussian kernel, scikit-learn's own width and penalty."""
    return make_pipeline(StandardScaler(), SVC(class_weight="balanced"))


def _people(fold: Fold) -> int:
    return int(people(fold.cohort.table.loc[fold.train]).min())


# A bag of any size as one row: how its images' features are distributed.


def bag_statistics(store: FeatureStore, patients: Sequence[str]) -> pd.DataFrame:
    """Mean and standard deviation of each column, a row a patient.

    How alike a patient's cells are is what a cytologist looks at: a clone is uniform. Neither grows
    nor shrinks with the number of images.
    """
    bags = [store.bag(patient).astype(float) for patient in patients]
    rows = [np.concatenate([bag.mean(axis=0), bag.std(axis=0)]) for bag in bags]
    return pd.DataFrame(rows, index=list(patients))
