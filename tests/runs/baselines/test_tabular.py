from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lymphoml.cli.config import plain
from lymphoml.data.cohort import Cohort
from lymphoml.runs.baselines.table import baseline_predictions

CONF = Path(__file__).parents[3] / "conf"
NAMES = ["prevalence", "bag_size", "count_rule", "logistic_regression", "random_forest"]


@pytest.fixture(scope="module")
def data():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return plain(compose("train", overrides=["data.folds=4"]))["data"]


@pytest.fixture
def cohort():
    random = np.random.default_rng(0)
    ids, label = [f"P{i:02}" for i in range(80)], np.arange(80) % 2
    table = pd.DataFrame(
        {
            "label": label,
            "age": random.normal(60 + 10 * label, 10),
            "lymphocyte_count": np.exp(random.normal(1.5 + 1.0 * label, 0.6)),
        },
        ids,
    )
    images = {
        patient: tuple(Path(f"{i}.jpg") for i in range(5 + 20 * value + random.integers(10)))
        for patient, value in zip(ids, label, strict=True)
    }
    return Cohort("tiny", table, images, pd.DataFrame(index=ids))


@pytest.fixture
def folds(cohort):
    return pd.DataFrame({"patient": cohort.table.index, "fold": np.arange(80) // 2 % 4})


def test_every_patient_is_predicted_once_by_every_baseline(data, cohort, folds):
    table = baseline_predictions(data, cohort, folds)
    assert list(table) == ["patient", "fold", *NAMES]
    assert sorted(table["patient"]) == list(cohort.table.index)
    assert table[NAMES].to_numpy().min() > 0
    assert table[NAMES].to_numpy().max() < 1


def test_the_regression_is_scikit_learns_on_age_and_log_count(data, cohort, folds):
    table = baseline_predictions(data, cohort, folds).set_index("patient")
    values = cohort.table[["age"]].assign(count=np.log(cohort.table["lymphocyte_count"]))
    held_out = (folds["fold"] == 1).to_numpy()
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    pipeline.fit(values[~held_out], cohort.table["label"][~held_out])
    expected = pipeline.predict_proba(values[held_out])[:, 1]
    ours = table["logistic_regression"].loc[values.index[held_out]]
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_the_rule_parts_at_the_training_patients_best_threshold(data, cohort, folds):
    table = baseline_predictions(data, cohort, folds)
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


def test_prevalence_and_bag_size(data, cohort, folds):
    table = baseline_predictions(data, cohort, folds).set_index("patient")
    assert table["prevalence"].eq(0.5).all()
    sizes = pd.Series({patient: len(paths) for patient, paths in cohort.images.items()})
    assert ((table["bag_size"] > 0.5) == (sizes > 19).loc[table.index]).mean() > 0.95


def test_held_out_labels_and_values_reach_no_fold_of_their_own(data, cohort, folds):
    before = baseline_predictions(data, cohort, folds)
    own = folds["patient"][folds["fold"] == 2]
    cohort.table.loc[own, "label"] = 1 - cohort.table["label"].loc[own]
    after = baseline_predictions(data, cohort, folds)
    pd.testing.assert_frame_equal(before[before["fold"] == 2], after[after["fold"] == 2])
    assert not before.equals(after)


def test_what_is_not_configured_is_left_out(data, cohort, folds):
    bare = data | {"clinical": [], "hard_stratum": None}
    assert list(baseline_predictions(bare, cohort, folds)) == ["patient", "fold", *NAMES[:2]]


def test_a_count_that_tells_nobody_apart_makes_no_rule(data, cohort, folds):
    cohort.table["lymphocyte_count"] = 5.0
    assert "count_rule" not in baseline_predictions(data, cohort, folds)
    # The training patients of a fold may all share a value that one of its held-out ones lacks.
    cohort.table.loc["P00", "lymphocyte_count"] = 50.0
    table = baseline_predictions(data, cohort, folds)
    assert np.isfinite(table["count_rule"]).all()
