"""A run's rule on new patients."""

import numpy as np
import pandas as pd
import pytest

from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.runs.triage_rule import apply_rule, read_rule
from tests.reports.fabricate import make_run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", n=163)


@pytest.fixture
def rule(run):
    assert read_rule(run) is None
    main(["triage", f"run={run}", "sensitivity=0.95"])
    return read_rule(run)


def test_new_patients_are_compared_model_by_model_and_not_by_their_mean(run, rule):
    table = pd.read_csv(run / "predictions.csv")
    limit = rule["threshold"]
    new = pd.DataFrame(
        {fold: [limit - 1e-6, limit, 0.0, 1.0] for fold in range(5)}, index=["a", "b", "c", "d"]
    )
    assert apply_rule(run, rule, new).tolist() == ["rule_out", "test", "rule_out", "test"]
    # Fold 0 alone is sure of a tumour: as many tumoral patients as it held out are no higher.
    torn = pd.DataFrame({fold: [1.0 if fold == 0 else 0.0] for fold in range(5)}, index=["e"])
    held_out = ((table["fold"] == 0) & (table["label"] == 1)).sum()
    assert apply_rule(run, rule, torn)["e"] == "test"
    assert apply_rule(run, rule | {"rank": held_out + 1}, torn)["e"] == "rule_out"


def test_an_abstaining_rule_tests_everybody(run, rule):
    main(["triage", f"run={run}", "sensitivity=0.999"])
    rule = read_rule(run)
    own = pd.DataFrame({fold: [0.0, np.nan] for fold in range(5)}, index=["new", "own"])
    own.loc["own", 0] = 0.0
    assert apply_rule(run, rule, own).tolist() == ["test", "test"]


def test_a_rule_of_other_predictions_is_refused(run, rule):
    table = pd.read_csv(run / "predictions.csv")
    table.iloc[::-1].to_csv(run / "predictions.csv", index=False)
    with pytest.raises(InputError, match="predictions have changed since; make it again"):
        read_rule(run)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"rank": null}'])
def test_a_damaged_rule_is_refused(run, content):
    (run / "triage.json").write_text(content)
    with pytest.raises(InputError, match=r"triage.json is not a result of this program"):
        read_rule(run)
