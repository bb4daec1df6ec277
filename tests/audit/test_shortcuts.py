"""Fields and their tests, against scikit-learn, scipy and simulations.

Labels as in the real cohort: 113 tumoral, 50 reactive. Clean fields are those of the Kaggle
layout: a date format, three other numbers, and four lights as correlated as the real cohort's.
"""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from lymphoml.audit.images import examine
from lymphoml.audit.shortcuts import (
    examine_shortcuts,
    permutation_tests,
    shortcut_fields,
    shortcut_findings,
)
from lymphoml.data.cohort import load_cohort
from lymphoml.data.decoding import Preprocessing
from lymphoml.evaluation.paired import holm
from tests.audit.cohorts import TRAIN, write_cohort

LABELS = np.repeat([1, 0], [113, 50])
# Spearman's correlation of brightness, red, green and blue of the real cohort's patients.
LIGHTS = np.array([[1, 0.98, 1, 0.89], [0.98, 1, 0.97, 0.83], [1, 0.97, 1, 0.89],
                   [0.89, 0.83, 0.89, 1]])  # fmt: skip


def clean(random: np.random.Generator) -> np.ndarray:
    vectors, factor = np.linalg.eigh(LIGHTS)[::-1]
    lights = random.normal(size=(163, 4)) @ (vectors * np.sqrt(factor.clip(0))).T
    others = random.normal(size=(163, 3))
    return np.column_stack([random.random(163) < 0.18, others, lights])


def leak(random: np.random.Generator, auroc: float) -> np.ndarray:
    return random.normal(size=163) + LABELS * np.sqrt(2) * norm.ppf(auroc)


def test_every_number_of_a_field():
    """80 patients: a leak, a clean field, a constant, one without any value."""
    random = np.random.default_rng(0)
    labels = pd.Series([1] * 50 + [0] * 30)
    fields = pd.DataFrame(
        {"leak": random.normal(size=80) + 1.5 * labels, "clean": random.random(80),
         "constant": 3.0, "absent": np.nan}
    )  # fmt: skip
    hard = pd.Series(random.random(80) < 0.5)
    examined = examine_shortcuts(fields, labels, hard)
    by_name = {each["name"]: each for each in examined}
    assert {name: each["status"] for name, each in by_name.items()} == {
        "leak": "tested", "clean": "tested", "constant": "constant", "absent": "absent",
    }  # fmt: skip
    field = by_name["leak"]
    for auroc, rows in ((field["auroc"], slice(None)), (field["hard"], hard)):
        expected = roc_auc_score(labels[rows], fields["leak"][rows])
        assert auroc["value"] == pytest.approx(expected, abs=1e-12)
        assert auroc["low"] < auroc["value"] < auroc["high"]
        assert auroc["tumoral"] == (labels[rows] == 1).sum()
    p = permutation_tests(fields[["leak", "clean"]], labels)
    assert (field["p"], field["p_adjusted"]) == (p[0][0], p[1][0])
    assert (field["flagged"], by_name["clean"]["flagged"]) == (True, False)
    warning, note = shortcut_findings(examined)
    assert (warning.severity, note.severity) == ("warning", "note")
    assert "leak" in warning.what
    assert "constant" in note.what


def test_one_class_or_one_patient_of_it_is_not_tested():
    fields, hard = pd.DataFrame({"a": [1.0, 2, 3]}), pd.Series([False] * 3)
    for labels in ([1, 1, 1], [1, 1, 0]):
        examined = examine_shortcuts(fields, pd.Series(labels), hard)
        assert examined == [{"name": "a", "status": "too few patients", "flagged": False}]


def test_fields_of_a_cohort(tmp_path):
    cohort = load_cohort(write_cohort(tmp_path))
    records = examine(cohort.images, tmp_path, Preprocessing(None, None))
    fields = shortcut_fields(cohort, records)
    assert fields.columns.tolist() == [
        "date format (- in age)", "row order", "bag size", "file number", "id number",
        "table (train or test)", "mean brightness", "mean red", "mean green", "mean blue",
    ]  # fmt: skip
    rows = (tmp_path / TRAIN).read_text().splitlines()
    line = 1 + next(number for number, row in enumerate(rows) if row.startswith("P20,"))
    patient = fields.loc["P20"]
    assert patient[:6].tolist() == [1, line, 3, 0, 20, 0]
    assert fields.loc["P27", "table (train or test)"] == 1
    assert fields.loc["P3", "date format (- in age)"] == 0
    red, green, blue = patient[["mean red", "mean green", "mean blue"]]
    assert patient["mean brightness"] == pytest.approx(0.299 * red + 0.587 * green + 0.114 * blue)
    assert red == pytest.approx(records.loc[records["patient"] == "P20", "red"].mean())


def test_p_is_exact_on_few_patients():
    """Two against three: 10 ways to label them, of which 2 are as far from 1/2 as 1.0 is."""
    p = permutation_tests([[1.0], [2], [3], [8], [9]], [0, 0, 0, 1, 1])[0]
    assert p[0] == pytest.approx(0.2, abs=0.015)
    tied = permutation_tests([[1.0], [1], [0], [0]], [1, 1, 0, 0])[0]
    assert tied[0] == pytest.approx(1 / 3, abs=0.02)


def test_adjusted_p_is_between_p_and_holms():
    random = np.random.default_rng(1)
    values = clean(random)
    values[:, 2] = leak(random, 0.72)
    p, adjusted = permutation_tests(values, LABELS)
    assert np.all(adjusted >= p)
    assert np.all(adjusted <= holm(p) + 0.01)
    # Copies of one field cost nothing.
    assert np.array_equal(*permutation_tests(np.repeat(values[:, 4:5], 10, axis=1), LABELS))


def test_missing_values_and_constants():
    random = np.random.default_rng(2)
    values = np.column_stack([leak(random, 0.8), np.ones(163)])
    values[::5, 0] = np.nan
    p, adjusted = permutation_tests(values, LABELS, 999)
    assert p.tolist() == adjusted.tolist() == [0.001, 1]
