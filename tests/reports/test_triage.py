import json
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from lymphoml.core.errors import InputError
from lymphoml.reports.triage import set_rule
from tests.reports.fabricate import config, make_predictions, make_run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", n=163)  # 108 tumoral, 55 reactive


def told(run, sensitivity=0.95, guarantee="average", prevalence=None):
    out = StringIO()
    console = Console(file=out, width=120, soft_wrap=True)
    return set_rule(run, sensitivity, guarantee, prevalence, console), out.getvalue()


def write_baselines(run, skill=1.0):
    table = pd.read_csv(run / "predictions.csv")
    logit = np.random.default_rng(5).normal(skill * table["label"])
    table["logistic_regression"] = 1 / (1 + np.exp(-logit))
    table = table[["patient", "fold", "logistic_regression"]]
    table.sample(frac=1, random_state=0).to_csv(run / "baselines.csv", index=False)
    return table


def test_the_rule_is_written_and_its_counts_are_those_of_the_predictions(run):
    rule, text = told(run, prevalence=0.3)
    assert rule == json.loads((run / "triage.json").read_text())
    table = pd.read_csv(run / "predictions.csv")
    tumoral = np.sort(table["probability"][table["label"] == 1])
    assert rule["rank"] == 5  # of (1 - 0.95) x 109
    assert rule["threshold"] == tumoral[4]
    spared = ((table["label"] == 0) & (table["probability"] < tumoral[4])).sum()
    outcome = rule["outcomes"]["average"]
    assert (outcome["missed"], outcome["ruled_out"]) == (4, spared)
    assert rule["outcomes"]["confidence"]["rank"] == 2
    for words in (f"{tumoral[4]:.4f}", "4 of 108", f"{spared} of 55", "value at 0.3",
                  "exchangeable", "Clopper-Pearson",
                  "with folds of equal size, at least 0.837 (Barber"):  # fmt: skip
        assert words in text
    assert "logistic regression" not in text
    assert "Abstains" not in text


def test_confidence_chooses_the_stricter_threshold(run):
    average, _ = told(run)
    sure, text = told(run, guarantee="confidence")
    assert sure["threshold"] < average["threshold"]
    assert sure["threshold"] == average["outcomes"]["confidence"]["threshold"]
    assert "prevalence=... gives" in text


def test_a_small_cohort_abstains_and_says_how_many_it_would_need(tmp_path):
    run = make_run(tmp_path / "run", n=24)  # 16 tumoral
    rule, text = told(run)
    assert (rule["rank"], rule["threshold"]) == (0, None)
    assert rule["n_tumoral_needed"] == {"average": 19, "confidence": 59}
    assert "with 16 tumoral patients no threshold keeps 0.95 on average; it would need 19" in text
    assert "in 95 % of cohorts; it would need 59" in text
    assert "the rule `average`, for predict.py; it spares nobody" in text


def test_repeats_are_averaged_patient_by_patient(tmp_path):
    settings = config(**{"data.repeats": 3})
    table = make_predictions(163, 5, 3, 3.0, 0)
    rule, text = told(make_run(tmp_path / "run", settings, predictions=table))
    mean = table.groupby("patient")["probability"].mean()
    tumoral = mean[table.groupby("patient")["label"].first() == 1]
    assert (rule["n_tumoral"], rule["repeats"]) == (108, 3)
    assert rule["threshold"] == pytest.approx(np.sort(tumoral)[4])
    assert "no bound is known for means over repeats" in text


def test_the_logistic_regression_stands_beside_with_the_paired_difference(run):
    table = write_baselines(run)
    rule, text = told(run)
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
    assert f"on average: {gain / 55:+.2f} [" in text


@pytest.mark.parametrize("spoil", [
    lambda table: table.iloc[1:],
    lambda table: table.assign(fold=(table["fold"] + 1) % 5),
    lambda table: pd.concat([table, table.iloc[:1]]),
])  # fmt: skip
def test_baselines_of_other_patients_or_folds_are_refused(run, spoil):
    spoil(write_baselines(run)).to_csv(run / "baselines.csv", index=False)
    with pytest.raises(InputError, match=r"baselines.csv: has other patients or folds"):
        told(run)
    assert not (run / "triage.json").exists()


def test_baselines_without_clinical_values_have_nothing_to_stand_beside(run):
    write_baselines(run).rename(columns={"logistic_regression": "bag_size"}).to_csv(
        run / "baselines.csv", index=False
    )
    assert told(run)[0]["baseline"] is None


@pytest.mark.parametrize(("values", "says"), [
    ((1.0, "average", None), "sensitivity=1.0: allowed is above 0 and below 1"),
    ((0.95, "average", 0.0), "prevalence=0.0: allowed is above 0 and below 1"),
    ((float("nan"), "average", None), "sensitivity=nan: allowed"),
    ((0.95, "mean", None), "guarantee=mean: allowed are average and confidence"),
])  # fmt: skip
def test_values_that_mean_nothing_are_refused(run, values, says):
    with pytest.raises(InputError, match=says):
        set_rule(run, *values)
    assert not (run / "triage.json").exists()


def test_an_unfinished_run_is_refused(run):
    (run / "fold-1" / "done.json").unlink()
    with pytest.raises(InputError, match="not finished"):
        told(run)
