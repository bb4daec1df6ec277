"""Which records are probably one person, in which tables, and how many by chance."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedKFold

from lymphoml.audit.clinical import coincidences, person_findings, suspected_pairs
from lymphoml.data.cohort import Cohort


@pytest.fixture
def cohort():
    """P0 and P1 of one label, P2 and P10 of two, P3 and P31 in both tables; 30 labelled."""
    ids = [f"P{number}" for number in range(32)]
    table = pd.DataFrame({"label": [0] * 10 + [1] * 20 + [-1] * 2, "group": range(32)}, index=ids)
    table.loc["P1", "group"] = 0
    table.loc["P10", "group"] = 2
    table.loc["P31", "group"] = 3
    origin = pd.DataFrame({"table": [0] * 30 + [1] * 2, "row": range(32)}, index=ids)
    return Cohort("c", table, dict.fromkeys(ids, ()), origin)


def test_pairs(cohort):
    same, differ, across = suspected_pairs(cohort, ["train.csv", "test.csv"], folds=5)
    assert same["patients"] == ["P0", "P1"]
    assert (same["labels"], same["same_label"]) == (["reactive"] * 2, True)
    assert (differ["labels"], differ["same_label"]) == (["reactive", "tumoral"], False)
    assert (across["tables"], across["across_tables"]) == (["train.csv", "test.csv"], True)
    assert across["split_probability"] is None
    rule = {"rule": "birth date and sex", "unknown": 0}
    (found,) = person_findings(
        rule | {"pairs": [same, differ, across], "expected_by_chance": 0.5}, True
    )
    assert "3 pairs" in found.what
    assert "0.5 expected by chance" in found.what
    assert "train.csv and test.csv" in found.where[2]
    assert found.where[1].endswith("their labels differ")
    assert "the labels of 1 pair differ" in found.what
    nothing = rule | {"pairs": [], "expected_by_chance": None}
    assert not list(person_findings(nothing, True))
    (found,) = person_findings(nothing | {"unknown": 2}, True)
    assert found.what == "2 records without birth date and sex: each counts as a person"
    (found,) = person_findings(nothing | {"rule": None}, True)
    assert "cannot be recognised" in found.what


def test_the_split_probability_is_that_of_ungrouped_folds(cohort):
    same, differ, _ = suspected_pairs(cohort, ["train.csv", "test.csv"], folds=5)
    labels = cohort.labelled.table["label"].reindex([f"P{n}" for n in range(30)])
    split = []
    for seed in range(400):
        parts = StratifiedKFold(5, shuffle=True, random_state=seed).split(labels, labels)
        fold = {patient: k for k, (_, held_out) in enumerate(parts) for patient in held_out}
        split.append([fold[0] != fold[1], fold[2] != fold[10]])
    expected = [same["split_probability"], differ["split_probability"]]
    assert np.mean(split, axis=0) == pytest.approx(expected, abs=0.06)


def test_coincidences_are_the_pairs_times_their_probability():
    """1,000 persons born within 10 years: of one day and sex by chance."""
    random = np.random.default_rng(0)
    age, sex = random.integers(0, 3650, 1000) / 365.25, random.choice(["F", "M"], 1000)
    expected = coincidences(pd.DataFrame({"age": age, "sex": sex}), "age", "sex")
    assert expected == pytest.approx(1000 * 999 / 2 / 2 / 3650, rel=0.06)
