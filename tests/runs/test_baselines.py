"""Baselines: what they compute, what images add to clinical values, and that nothing leaks."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lymphoml.cli.config import compose_config
from lymphoml.data.cohort import Cohort
from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.folds import make_folds, split, training_split
from lymphoml.runs.baselines import Fold, bag_statistics, baseline_predictions, count_rule

NAMES = ["prevalence", "bag_size", "count_rule", "logistic_regression", "random_forest"]


@pytest.fixture(scope="module")
def data():
    return compose_config("data.folds=4").data


def drawn(seed=0, patients=80, shift=1.0, labels=None, clinical=0.0):
    """A cohort, and features of its images.

    The first feature depends on the label by `shift`, lymphocyte count and number of images by
    `clinical`, age always a little.
    """
    random = np.random.default_rng(seed)
    ids = [f"P{i:03}" for i in range(patients)]
    truth = np.arange(patients) % 2
    table = pd.DataFrame(
        {
            "label": truth if labels is None else labels,
            "group": np.arange(patients),
            "age": random.normal(60 + 5 * truth, 10),
            "lymphocyte_count": np.exp(random.normal(1.5 + clinical * truth, 0.6)),
        },
        ids,
    )
    sizes = 5 + random.integers(10, size=patients) + (20 * clinical * truth).astype(int)
    rows = {
        patient: (random.normal(size=(size, 6)) + shift * label * np.eye(6)[0]).astype(np.float32)
        for patient, size, label in zip(ids, sizes, truth, strict=True)
    }
    images = {patient: (Path("0.jpg"),) * len(rows[patient]) for patient in ids}
    cohort = Cohort("tiny", table, images, pd.DataFrame(index=ids))
    return cohort, FeatureStore(rows, [f"feature_{i}" for i in range(6)])


@pytest.fixture
def cohort():
    return drawn(clinical=1.0)[0]


@pytest.fixture
def folds(cohort):
    return pd.DataFrame({"patient": cohort.table.index, "fold": np.arange(80) // 2 % 4})


@pytest.fixture
def table(data, cohort, folds):
    return baseline_predictions(data, cohort, folds, {})


def test_every_patient_is_predicted_once_by_every_baseline(table, cohort):
    assert list(table) == ["patient", "fold", *NAMES]
    assert sorted(table["patient"]) == list(cohort.table.index)
    assert table[NAMES].stack().between(0, 1).all()
    table = table.set_index("patient")
    assert table["prevalence"].eq(0.5).all()
    sizes = pd.Series({patient: len(paths) for patient, paths in cohort.images.items()})
    assert ((table["bag_size"] > 0.5) == (sizes > 19).loc[table.index]).mean() > 0.95


def test_the_regression_is_scikit_learns_on_age_and_log_count(table, cohort, folds):
    table = table.set_index("patient")
    values = cohort.table[["age"]].assign(count=np.log(cohort.table["lymphocyte_count"]))
    held_out = (folds["fold"] == 1).to_numpy()
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    pipeline.fit(values[~held_out], cohort.table["label"][~held_out])
    expected = pipeline.predict_proba(values[held_out])[:, 1]
    found = table["logistic_regression"].loc[values.index[held_out]]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_rule_uses_the_training_patients_best_threshold(table, cohort, folds):
    for fold, rows in table.groupby("fold"):
        inside = cohort.table.loc[folds["patient"][folds["fold"] != fold]]
        counts = cohort.table["lymphocyte_count"].loc[rows["patient"]].to_numpy()

        def accuracy(cut, inside=inside):
            right = (inside["lymphocyte_count"] > cut) == (inside["label"] == 1)
            return right.groupby(inside["label"]).mean().mean()

        called = rows["count_rule"].to_numpy() > 0.5
        lowest, highest = counts[~called].max(), counts[called].min()
        assert lowest < highest
        cuts = inside["lymphocyte_count"]
        between = [lowest, *cuts[cuts.between(lowest, highest, inclusive="left")]]
        assert max(map(accuracy, between)) == max(map(accuracy, cuts))


def test_held_out_labels_and_values_reach_no_fold_of_their_own(data, folds):
    cohort, store = drawn(clinical=1.0)
    before = baseline_predictions(data, cohort, folds, {"morphology": store}).set_index("patient")
    held_out = folds["patient"][folds["fold"] == 2]
    first, *others = held_out
    cohort.table.loc[held_out, "label"] = 1 - cohort.table["label"].loc[held_out]
    cohort.table.loc[others, ["age", "lymphocyte_count"]] = 1e3
    bags = {each: store.bag(each) + 1e6 * (each in others) for each in cohort.images}
    changed = FeatureStore(bags, store.names)
    after = baseline_predictions(data, cohort, folds, {"morphology": changed}).set_index("patient")
    pd.testing.assert_series_equal(after.loc[first], before.loc[first], check_exact=True)
    assert (after != before).loc[others, ["logistic_regression", "morphology"]].all(axis=None)


def test_baselines_without_their_columns_are_left_out(data, cohort, folds):
    bare = data.replace({"clinical": [], "hard_stratum": None})
    assert list(baseline_predictions(bare, cohort, folds, {})) == ["patient", "fold", *NAMES[:2]]
    cohort.table["lymphocyte_count"] = 5.0
    few = data.replace({"clinical": []})
    assert "count_rule" not in baseline_predictions(few, cohort, folds, {})
    # The training patients of a fold may all share a value that one of its held-out ones lacks.
    cohort.table.loc["P000", "lymphocyte_count"] = 50.0
    fold = Fold(data, cohort, *split(folds, 0, 4))
    assert np.isfinite(count_rule(fold, "lymphocyte_count")).all()


def auroc(table, cohort, name):
    return roc_auc_score(cohort.table["label"].loc[table["patient"]], table[name])


@pytest.mark.parametrize("shift", [1.0, 0.0])
def test_stacking_adds_images_that_help_to_the_clinical_values(data, shift):
    """A kernel machine fits its own patients perfectly: stacked on logits of its own fit it would
    be trusted where images predict nothing, and drown the age that predicts the label."""
    cohort, store = drawn(patients=160, shift=shift)
    folds = make_folds(cohort.table, 4, 1, 0)
    table = baseline_predictions(data, cohort, folds, {"morphology": store})
    clinical, images = (
        auroc(table, cohort, name) for name in ("logistic_regression", "morphology")
    )
    if shift:
        assert images > max(0.9, clinical + 0.1)
    else:
        assert images == pytest.approx(clinical, abs=0.08)


def test_statistics_ignore_order_and_the_size_of_the_bag():
    rows = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
    bags = {"one": rows, "reversed": rows[::-1], "thrice": np.tile(rows, (3, 1))}
    table = bag_statistics(FeatureStore(bags, "abc"), list(bags))
    expected = np.concatenate([rows.mean(axis=0), rows.std(axis=0)])
    for patient in bags:
        assert table.loc[patient].to_numpy() == pytest.approx(expected, abs=1e-6)


def test_stacking_needs_two_people_of_a_class_and_one_image_each(data):
    cohort, store = drawn(patients=4)
    folds = pd.DataFrame({"patient": cohort.table.index, "fold": [0, 0, 1, 1]})
    table = baseline_predictions(data.replace({"folds": 2}), cohort, folds, {"morphology": store})
    assert "morphology" not in table
    cohort, store = drawn()
    single = {patient: store.bag(patient)[:1] for patient in cohort.images}
    folds = make_folds(cohort.table, 4, 1, 0)
    features = {"morphology": FeatureStore(single, store.names)}
    table = baseline_predictions(data, cohort, folds, features)
    assert table["morphology"].between(0, 1, inclusive="neither").all()


def test_baselines_train_on_the_patients_that_are_drawn(data, cohort, folds):
    few = data.replace({"train_size": 20})
    before = baseline_predictions(few, cohort, folds, {}, seed=3)
    table = before[before["fold"] == 1]
    train, held_out = training_split(few, cohort.table, folds, 1, seed=3)
    assert (table["prevalence"] == cohort.table["label"].loc[train].mean()).all()
    cohort.table.loc[cohort.table.index.difference([*train, *held_out]), "age"] = 1e3
    after = baseline_predictions(few, cohort, folds, {}, seed=3)
    pd.testing.assert_frame_equal(after[after["fold"] == 1], table, check_exact=True)
    assert not after.equals(before)
