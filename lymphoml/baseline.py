"""What the clinical values alone are worth in the same folds: the floor beside every score."""

from typing import Any

import pandas as pd
from sklearn.linear_model import LogisticRegression

from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.cohort import Cohort
from lymphoml.data.folds import split
from lymphoml.evaluation.metrics import pool


def clinical_baseline(
    config: dict[str, Any], cohort: Cohort, folds: pd.DataFrame
) -> dict[str, Any] | None:
    """Pooled out-of-fold scores of a logistic regression on the configured clinical columns.

    Standardised, positive quantities logged, classes weighed equally: fixed, so that it stays the
    same floor whatever the network is given. None where no clinical column is configured.
    """
    data = config["data"]
    if not data["clinical"]:
        return None
    columns = {
        name: column | ({"log": True} if column.get("positive") else {})
        for name, column in data["columns"].items()
    }
    parts = []
    for fold in sorted(folds["fold"].unique().tolist()):
        train, held_out = (
            cohort.table.loc[patients] for patients in split(folds, fold, data["folds"])
        )
        encoder = ClinicalEncoder.fit(
            train, columns, data["clinical"], standardise=True, missing=data["missing"]
        )
        model = LogisticRegression(class_weight="balanced")
        model.fit(encoder.transform(train), train["label"])
        probability = model.predict_proba(encoder.transform(held_out))[:, 1]
        parts.append(
            pd.DataFrame({"fold": fold, "label": held_out["label"], "probability": probability})
        )
    return pool(pd.concat(parts, ignore_index=True), data["folds"])
