import numpy as np
import pandas as pd
import pytest

from lymphoml.evaluation.calibration import reliability_bins, shift_prevalence
from lymphoml.reports.page import Choices, curves
from lymphoml.reports.page.curves import LEGEND, decision_chart
from lymphoml.runs.finished_run import read_run
from tests.reports.fabricate import config, make_predictions, make_run, make_small_run

ANY = Choices()


def legend(chart):
    return {series.name: series for series in chart.legend}


def test_the_reliability_diagram_is_of_the_first_repeat(tmp_path):
    run = read_run(make_small_run(tmp_path / "run", n=100, **{"data.repeats": 2}))
    content = curves.calibration(run, ANY)
    rows = run.predictions.head(100)
    bins = reliability_bins(rows["label"], rows["probability"], bins=10)
    points = content["reliability"].series[1]
    assert points.y == pytest.approx(bins["observed"])
    assert points.x == pytest.approx(bins["probability"])
    assert points.y_interval[0] == pytest.approx(tuple(bins[["low", "high"]].iloc[0]))
    assert (content["bins"], content["repeats"]) == (10, 2)
    assert content["slope"]["low"] < content["slope"]["value"]
    assert content["recalibrated"][0][:2] == ("as trained", content["slope"])
    few = make_small_run(tmp_path / "few")
    assert curves.calibration(read_run(few), ANY)["bins"] == 6  # of five patients


def test_overconfident_probabilities_are_corrected_by_either_scaler():
    rows = make_predictions(600, 3, 2, 2.0, seed=0)
    odds = (rows["probability"] / (1 - rows["probability"])) ** 8
    rows["probability"] = odds / (1 + odds)
    (name, before, _, worst), *scaled = curves.recalibrated(rows, 3)
    assert [name, len(scaled)] == ["as trained", 2]
    assert before["high"] < 1
    for _, slope, _, brier in scaled:
        assert slope["low"] < 1 < slope["high"]
        assert brier["value"] < worst["value"]
    one_class = pd.DataFrame({"patient": list("abcd"), "fold": [0, 0, 1, 1], "label": [1, 0, 1, 1],
                              "probability": [0.9, 0.1, 0.8, 0.7]})  # fmt: skip
    assert curves.recalibrated(one_class, 2) == []


def test_the_decision_curve_leaves_out_where_testing_everyone_falls_below_it():
    curve = pd.DataFrame({
        "threshold": [0.1, 0.3, 0.5], "net_benefit": [0.6, 0.5, 0.4], "low": [0.5, 0.4, -0.1],
        "high": [0.7, 0.6, 0.5], "all": [0.6, 0.2, -0.4], "none": [0.0, 0.0, 0.0],
    })  # fmt: skip
    series = legend(decision_chart(curve))
    assert series["test everyone"].y == [0.6, 0.2]
    assert series["this run"].y == [0.6, 0.5, 0.4]
    assert "0.400 [−0.100, 0.500]" in series["this run"].tooltips[2]


def test_the_decision_curve_takes_another_prevalence_and_the_clinical_baseline(tmp_path):
    path = make_small_run(tmp_path / "run")
    run = read_run(path)
    assert LEGEND not in legend(curves.calibration(run, ANY)["decision"])
    table = run.predictions[["patient", "fold"]].assign(logistic_regression=0.2)
    table.iloc[::-1].to_csv(path / "baselines.csv", index=False)
    content = curves.calibration(run, Choices(prevalence=0.3))
    series = legend(content["decision"])
    assert series["test everyone"].y[9] == pytest.approx(0.3 - 0.7 * 0.1 / 0.9)
    # 0.2 where classes count alike is odds of 3 / 28 at 0.3: above 0.09, below 0.10.
    assert series[LEGEND].y[8] == pytest.approx(0.3 - 0.7 * 0.09 / 0.91)
    assert series[LEGEND].y[9] == 0


@pytest.mark.parametrize("prevalence", [None, 0.2])
def test_net_benefit_does_not_depend_on_the_class_weights_of_training(tmp_path, prevalence):
    """One model trained for three prevalences: the cohort's 2/3, 1/2, and 6/7 by a weight of 3."""
    plain = make_predictions(30, 2, 1, 2.0, seed=0)
    drawn = []
    for name, weight, trained in (("a", None, 2 / 3), ("b", "balanced", 0.5), ("c", 3, 6 / 7)):
        rows = plain.assign(probability=shift_prevalence(plain["probability"], 2 / 3, trained))
        settings = config(**{"data.folds": 2, "loss": {"pos_weight": weight}})
        clinical = shift_prevalence(plain["probability"], 2 / 3, 0.5)
        baselines = rows[["patient", "fold"]].assign(logistic_regression=clinical)
        path = make_run(tmp_path / name, settings, epochs=1, predictions=rows, baselines=baselines)
        content = curves.calibration(read_run(path), Choices(prevalence=prevalence))
        series = legend(content["decision"])
        drawn += [series["this run"].y, series[LEGEND].y]
        assert content["training_prevalence"] == pytest.approx(trained)
        intercept = {"a": None, "b": np.log(2), "c": -np.log(3)}[name]  # odds of 2 to 1 and 1 to 3
        assert content["weight_intercept"] == pytest.approx(intercept)
    for curve in drawn[1:]:
        assert curve == pytest.approx(drawn[0])
