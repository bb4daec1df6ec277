"""What is said of a run on another cohort, beside its own scores."""

import pandas as pd
import pytest

from lymphoml.reports.triage import set_rule
from lymphoml.reports.validation import describe
from lymphoml.runs.finished_run import read_run
from lymphoml.runs.triage_rule import read_rule
from lymphoml.runs.validation import assess
from tests.reports.fabricate import config, make_run

LABELS = [0, 0, 0, 1, 1, 1]


def validation(run, probabilities=(0.1, 0.6, 0.2, 0.7, 0.4, 0.9), ruled_out=()):
    """The content of validation.json for six patients, judged by the run's rule."""
    table = pd.DataFrame({"label": LABELS, "probability": probabilities, "fold": 0})
    table["triage"] = ["rule_out" if each in ruled_out else "test" for each in table.index]
    table = table.assign(patient=[*"abcdef"], outside_range="")
    found = assess(table, pd.DataFrame(index=[*"abcdef"]), read_rule(run))
    return {"cohort": "second", "digest": "0" * 64, "shift": [],
            "persons": {"rule": "birth date", "several": 0}} | found  # fmt: skip


def lines(run, content):
    return describe(read_run(run), content)["lines"]


def test_only_the_rule_that_the_run_has_is_judged(tmp_path):
    run = make_run(tmp_path / "run", n=163, epochs=1)
    without = validation(run)
    assert "triage run=RUN sets one" in lines(run, without)[0]
    set_rule(run, 0.95, "average", None)
    assert "not the one that was judged" in lines(run, without)[0]
    judged = validation(run)
    assert "sensitivity 1.000" in lines(run, judged)[0]
    set_rule(run, 0.9, "average", None)
    assert "not the one that was judged" in lines(run, judged)[0]


def test_a_promise_is_not_kept_where_more_are_missed_than_chance_explains(tmp_path):
    run = make_run(tmp_path / "run", n=163, epochs=1)
    set_rule(run, 0.95, "average", None)
    for missed, expected in ((3,), "no evidence against"), ((3, 4, 5), "is not kept here"):
        assert expected in lines(run, validation(run, ruled_out=missed))[0]


@pytest.mark.parametrize(("probabilities", "expected"), [
    ([0.7] * 6, "no slope, since the probability is the same for all, intercept −"),
    ([0.1, 0.2, 0.3, 0.7, 0.8, 0.9], "probability separates the classes, intercept"),
    ([0.9, 0.8, 0.7, 0.3, 0.2, 0.1], "separates the classes in reverse, intercept"),
])  # fmt: skip
def test_where_the_slope_has_no_value_the_reason_is_said(tmp_path, probabilities, expected):
    run = make_run(tmp_path / "run", epochs=1)
    assert expected in lines(run, validation(run, probabilities))[1]


def test_the_mean_over_all_models_is_beside_the_runs_own(tmp_path):
    run = make_run(tmp_path / "run", config(**{"data.folds": 3, "data.repeats": 2}), epochs=1)
    found, read = describe(read_run(run), validation(run)), read_run(run)
    assert found["own"] == "out of fold, mean over repeats"
    own = {title: score for title, score, _ in found["scores"]}
    assert own["AUROC"] == read.metrics["averaged"]["scores"]["all"]["auroc"]
