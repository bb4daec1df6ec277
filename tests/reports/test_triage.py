from io import StringIO

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from lymphoml.core.errors import InputError
from lymphoml.reports.triage import set_rule
from lymphoml.runs.triage_rule import read_rule
from tests.reports.fabricate import (
    config,
    list_files,
    make_baselines,
    make_predictions,
    make_run,
)


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", n=163, epochs=1)  # 108 tumoral, 55 reactive


def make_rule(run, sensitivity=0.95, guarantee="average", prevalence=None):
    console = Console(file=(out := StringIO()), width=120, soft_wrap=True)
    return set_rule(run, sensitivity, guarantee, prevalence, console), out.getvalue()


def test_the_rule_is_written_and_its_counts_are_those_of_the_predictions(run):
    rule, text = make_rule(run, prevalence=0.3)
    assert rule == read_rule(run)
    table = pd.read_csv(run / "predictions.csv")
    tumoral = np.sort(table["probability"][table["label"] == 1])
    assert rule["rank"] == 5  # of (1 - 0.95) x 109
    assert rule["threshold"] == tumoral[4]
    ruled_out = ((table["label"] == 0) & (table["probability"] < tumoral[4])).sum()
    outcome = rule["outcomes"]["average"]
    assert (outcome["missed"], outcome["ruled_out"]) == (4, ruled_out)
    assert rule["outcomes"]["confidence"]["rank"] == 2
    assert rule["baseline"] is None
    for words in (f"{tumoral[4]:.4f}", "4 of 108", f"{ruled_out} of 55", "at least 0.837 (Barber"):
        assert words in text
    sure, _ = make_rule(run, guarantee="confidence")
    assert sure["threshold"] == rule["outcomes"]["confidence"]["threshold"] == tumoral[1]


@pytest.mark.parametrize("unlike", ["size", "tumoral", "site_folds", "folds_csv"])
def test_folds_that_are_unequal_or_not_drawn_at_random_have_no_bound(tmp_path, unlike):
    predictions = make_predictions(165, 5, 1, 3.0, 0)
    settings = config()
    if unlike == "site_folds":
        settings["data"]["site_folds"] = True
    elif unlike == "folds_csv":
        del settings["data"]["folds_csv"]  # of a path out of the project
    if unlike == "size":
        predictions.loc[:90, "fold"] = 0  # as one site may be
    elif unlike == "tumoral":
        predictions["fold"] = predictions["label"].rank(method="first").astype(int) % 165 // 33
    _, text = make_rule(make_run(tmp_path / "run", settings, predictions=predictions))
    assert "no bound is known for folds that are not equal or not drawn here" in text
    assert "Barber" not in text


def test_a_small_cohort_abstains_and_says_how_many_it_would_need(tmp_path):
    predictions = make_predictions(24, 5, 1, 3.0, 0)  # 16 tumoral
    baselines = make_baselines(predictions, logistic_regression=1.0)
    run = make_run(tmp_path / "run", epochs=1, predictions=predictions, baselines=baselines)
    rule, text = make_rule(run)
    assert (rule["rank"], rule["threshold"]) == (0, None)
    assert rule["baseline"]["specificity_difference"] == {}  # of two rules that rule out no one
    assert rule["n_tumoral_needed"] == {"average": 19, "confidence": 59}
    assert "needs 19 tumoral patients" in text
    assert "rules out no one" in text


def test_the_baseline_has_its_own_threshold_and_the_paired_difference(run):
    table = make_baselines(pd.read_csv(run / "predictions.csv"), logistic_regression=1.0)
    table.sample(frac=1, random_state=0).to_csv(run / "baselines.csv", index=False)
    list_files(run)
    rule, _ = make_rule(run)
    label = pd.read_csv(run / "predictions.csv").set_index("patient")["label"]
    clinical = table.set_index("patient")["logistic_regression"]
    limit = np.sort(clinical[label == 1])[4]
    outcome = rule["baseline"]["outcomes"]["average"]
    assert outcome["threshold"] == limit
    assert outcome["ruled_out"] == (clinical[label == 0] < limit).sum()
    difference = rule["baseline"]["specificity_difference"]["average"]
    gain = rule["outcomes"]["average"]["ruled_out"] - outcome["ruled_out"]
    assert difference["value"] == pytest.approx(gain / 55)
    assert difference["low"] < difference["value"] < difference["high"]


@pytest.mark.parametrize(("values", "key"), [
    ((1.0, "average", None), "sensitivity=1.0"),
    ((float("nan"), "average", None), "sensitivity=nan"),
    ((0.95, "average", 0.0), "prevalence=0.0"),
    ((0.95, "mean", None), "guarantee=mean"),
])  # fmt: skip
def test_values_out_of_range_are_refused(run, values, key):
    with pytest.raises(InputError, match=key):
        set_rule(run, *values)
    assert not (run / "triage.json").exists()
