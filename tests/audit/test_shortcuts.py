"""Each field against statsmodels and a count by hand; what cannot be tested is said to be so."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from lymphoml.audit.images import examine
from lymphoml.audit.shortcuts import (
    examine_shortcuts,
    likelihood_ratio,
    shortcut_fields,
    shortcut_findings,
)
from lymphoml.data.cohort import load_cohort
from lymphoml.data.decoding import Preprocessing
from tests.audit.cohorts import write_cohort


@pytest.fixture
def drawn():
    """80 patients: a leak, a clean field, a constant, one without any value; and their count."""
    random = np.random.default_rng(0)
    labels = pd.Series([1] * 50 + [0] * 30)
    fields = pd.DataFrame(
        {"leak": random.normal(size=80) + 1.5 * labels, "clean": random.random(80)}
    )
    fields["constant"], fields["absent"] = 3.0, np.nan
    return fields, labels, (random.normal(size=80) + labels).to_numpy()[:, None]


def test_every_number_of_a_field(drawn):
    fields, labels, clinical = drawn
    hard = pd.Series(clinical[:, 0] < 0.5)
    told = {each["name"]: each for each in examine_shortcuts(fields, labels, hard, clinical)}
    assert {name: each["status"] for name, each in told.items()} == {
        "leak": "tested", "clean": "tested", "constant": "constant", "absent": "absent",
    }  # fmt: skip
    leak = told["leak"]
    assert leak["auroc"]["value"] == pytest.approx(roc_auc_score(labels, fields["leak"]), abs=1e-12)
    assert leak["hard"]["value"] == pytest.approx(
        roc_auc_score(labels[hard], fields["leak"][hard]), abs=1e-12
    )
    assert leak["hard"]["tumoral"] == int((labels[hard] == 1).sum())
    assert leak["auroc"]["low"] < leak["auroc"]["value"] < leak["auroc"]["high"]
    assert leak["flagged"]
    assert leak["p_holm"] == pytest.approx(2 * leak["p"])
    assert not told["clean"]["flagged"]
    assert told["clean"]["p_adjusted"] > 0.05
    found = list(shortcut_findings(list(told.values())))
    assert [each.severity for each in found] == ["warning", "note"]
    assert "leak predicts the label" in found[0].what
    assert found[1].what == "not tested: constant: constant; absent: absent"


def test_likelihood_ratio_is_scikit_learns(drawn):
    fields, labels, clinical = drawn
    told = likelihood_ratio(fields["leak"], labels, clinical)
    losses = []
    for features in (clinical, np.column_stack([clinical, fields["leak"]])):
        model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(features, labels)
        losses.append(log_loss(labels, model.predict_proba(features)[:, 1], normalize=False))
    assert told["statistic"] == pytest.approx(2 * (losses[0] - losses[1]), rel=1e-6)
    assert told["p"] == pytest.approx(chi2.sf(told["statistic"], 1))


def test_likelihood_ratio_without_answer(drawn):
    """Separated by the field, by the clinical values, quasi-separated, or the same thing again."""
    _, labels, clinical = drawn
    separated = {"reason": "the classes can be separated"}
    by_label = labels + np.linspace(0, 0.5, 80)
    assert likelihood_ratio(by_label, labels, clinical) == separated
    assert (
        likelihood_ratio(pd.Series(clinical[::-1, 0]), labels, by_label.to_numpy()[:, None])
        == separated
    )
    quasi = pd.Series(np.where(np.arange(80) < 20, 1.0, 0.0))  # all of those tumoral
    assert likelihood_ratio(quasi, labels, clinical) == separated
    same = {"reason": "follows from the clinical values"}
    assert likelihood_ratio(pd.Series(2 * clinical[:, 0] + 1), labels, clinical) == same
    constant = likelihood_ratio(pd.Series(clinical[:, 0]), labels, np.ones((80, 1)))
    assert constant["p"] < 0.01


def test_clinical_columns_that_say_the_same_hide_no_field(drawn):
    fields, labels, clinical = drawn
    once = likelihood_ratio(fields["leak"], labels, clinical)
    twice = np.column_stack([clinical, 1 - 2 * clinical, np.ones(80)])
    assert likelihood_ratio(fields["leak"], labels, twice) == pytest.approx(once)
    same = {"reason": "follows from the clinical values"}
    assert likelihood_ratio(pd.Series(3 * clinical[:, 0]), labels, twice) == same


def test_one_class_or_one_patient_of_it_is_not_tested():
    fields, hard = pd.DataFrame({"a": [1.0, 2, 3]}), pd.Series([False] * 3)
    for labels in ([1, 1, 1], [1, 1, 0]):
        told = examine_shortcuts(fields, pd.Series(labels), hard, None)
        assert told == [{"name": "a", "status": "too few patients", "flagged": False}]


def test_fields_of_a_cohort(tmp_path):
    data = write_cohort(tmp_path)
    cohort = load_cohort(data)
    records = examine(cohort.images, tmp_path, Preprocessing(None, None))
    fields = shortcut_fields(cohort, records)
    assert fields.columns.tolist() == [
        "date format (- in age)", "row order", "bag size", "file number", "id number",
        "table (train or test)", "mean brightness", "mean red", "mean green", "mean blue",
    ]  # fmt: skip
    rows = (tmp_path / "trainset/trainset_true.csv").read_text().splitlines()
    line = 1 + next(number for number, row in enumerate(rows) if row.startswith("P20,"))
    patient = fields.loc["P20"]
    assert patient[:6].tolist() == [1, line, 3, 0, 20, 0]
    assert fields.loc["P27", "table (train or test)"] == 1
    assert fields.loc["P3", "date format (- in age)"] == 0
    red, green, blue = patient[["mean red", "mean green", "mean blue"]]
    assert patient["mean brightness"] == pytest.approx(0.299 * red + 0.587 * green + 0.114 * blue)
    means = records.loc[records["patient"] == "P20", "red"]
    assert red == pytest.approx(means.mean())
