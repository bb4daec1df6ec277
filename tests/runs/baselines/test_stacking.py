"""Image features stacked on clinical values: what they gain, and that nothing leaks."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from sklearn.metrics import roc_auc_score

from lymphoml.cli.config import plain
from lymphoml.data.cohort import Cohort
from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.folds import make_folds, split
from lymphoml.runs.baselines.folds import Fold
from lymphoml.runs.baselines.stacking import bag_statistics, can_stack, image_model, stacked
from lymphoml.runs.baselines.table import baseline_predictions

CONF = Path(__file__).parents[3] / "conf"


@pytest.fixture(scope="module")
def data():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return plain(compose("train", overrides=["data.folds=4"]))["data"]


def drawn(seed=0, patients=80, told=1.0, labels=None):
    """A cohort whose images' first feature, and whose age a little, tell the label."""
    random = np.random.default_rng(seed)
    ids = [f"P{i:03}" for i in range(patients)]
    truth = np.arange(patients) % 2
    table = pd.DataFrame(
        {
            "label": truth if labels is None else labels,
            "group": np.arange(patients),
            "age": random.normal(60 + 5 * truth, 10),
            "lymphocyte_count": np.exp(random.normal(1.5, 0.6, patients)),
        },
        ids,
    )
    rows = {
        patient: (random.normal(size=(random.integers(5, 30), 6)) + told * label * np.eye(6)[0])
        .astype(np.float32)
        for patient, label in zip(ids, truth, strict=True)
    }  # fmt: skip
    images = {patient: (Path("0.jpg"),) * len(rows[patient]) for patient in ids}
    cohort = Cohort("tiny", table, images, pd.DataFrame(index=ids))
    return cohort, FeatureStore(rows, [f"feature_{i}" for i in range(6)])


def auroc(table, cohort, name):
    return roc_auc_score(cohort.table["label"].loc[table["patient"]], table[name])


def test_stacking_adds_the_images_to_the_clinical_values(data):
    cohort, store = drawn()
    folds = make_folds(cohort.table, 4, 1, 0)
    table = baseline_predictions(data, cohort, folds, {"morphology": store})
    assert auroc(table, cohort, "morphology") > 0.9
    assert auroc(table, cohort, "morphology") > auroc(table, cohort, "logistic_regression") + 0.1


def test_images_that_say_nothing_leave_the_clinical_values(data):
    """A kernel machine knows its own patients by heart: stacked on logits of its own fit it would
    be trusted, and drown the age that tells the label."""
    cohort, store = drawn(patients=160, told=0.0)
    folds = make_folds(cohort.table, 4, 1, 0)
    table = baseline_predictions(data, cohort, folds, {"morphology": store})
    floor = auroc(table, cohort, "logistic_regression")
    assert auroc(table, cohort, "morphology") == pytest.approx(floor, abs=0.08)


def test_permuted_labels_are_not_predicted(data):
    """Any leak of a held-out label would lift this; in-sample logits reach 0.9 here."""
    scores = []
    for seed in range(8):
        labels = np.random.default_rng(seed).permutation(np.arange(80) % 2)
        cohort, store = drawn(seed, labels=labels)
        folds = make_folds(cohort.table, 4, 1, seed)
        table = baseline_predictions(data, cohort, folds, {"morphology": store})
        scores.append(auroc(table, cohort, "morphology"))
    assert np.mean(scores) == pytest.approx(0.5, abs=0.09)  # its standard error is 0.024


def test_held_out_rows_and_labels_change_nothing(data):
    cohort, store = drawn()
    folds = make_folds(cohort.table, 4, 1, 0)
    fold = Fold(data, cohort, *split(folds, 2, 4))
    statistics = bag_statistics(store, list(cohort.table.index))
    before = stacked(fold, statistics)
    first, *others = fold.held_out
    spoiled = statistics.copy()
    spoiled.loc[others] = 1e6
    cohort.table.loc[fold.held_out, "label"] = 1 - cohort.table.loc[fold.held_out, "label"]
    cohort.table.loc[others, ["age", "lymphocyte_count"]] = 1e3
    assert stacked(fold, spoiled)[0] == before[0]
    assert len(before) == 1 + len(others)
    assert first == fold.held_out[0]


def test_statistics_ignore_order_and_the_size_of_the_bag():
    rows = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
    store = FeatureStore(
        {"one": rows, "dihedral": rows[::-1], "thrice": np.tile(rows, (3, 1))}, "abc"
    )
    table = bag_statistics(store, ["one", "dihedral", "thrice"])
    expected = np.concatenate([rows.mean(axis=0), rows.std(axis=0)])
    for patient in table.index:
        assert table.loc[patient].to_numpy() == pytest.approx(expected, abs=1e-6)


def test_too_few_people_are_not_stacked_on(data):
    cohort, store = drawn(patients=4)
    folds = pd.DataFrame({"patient": cohort.table.index, "fold": [0, 0, 1, 1]})
    data = data | {"folds": 2}
    assert not can_stack(Fold(data, cohort, *split(folds, 0, 2)))
    table = baseline_predictions(data, cohort, folds, {"morphology": store})
    assert "morphology" not in table


def test_one_image_a_patient_is_enough(data):
    cohort, store = drawn()
    single = FeatureStore(
        {patient: store.bag(patient)[:1] for patient in cohort.images}, store.names
    )
    folds = make_folds(cohort.table, 4, 1, 0)
    table = baseline_predictions(data, cohort, folds, {"morphology": single})
    assert table["morphology"].between(0, 1, inclusive="neither").all()
    assert image_model().steps[-1][1].kernel == "rbf"
