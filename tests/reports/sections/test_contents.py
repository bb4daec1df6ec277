"""What the sections say, against counts by hand and other implementations."""

import html
import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sklearn.calibration import calibration_curve
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from lymphoml.core.errors import InputError
from lymphoml.evaluation.decision_curve import shift_prevalence
from lymphoml.evaluation.intervals import wilson
from lymphoml.reports.page.choices import Choices
from lymphoml.reports.page.page import render
from lymphoml.reports.page.scores import baseline_scores, run_scores
from lymphoml.reports.page.sections import (
    audit,
    calibration,
    comparison,
    configuration,
    discrimination,
    folds,
    hard,
    headline,
    learning,
    subgroups,
    triage,
    tried,
    tripod,
)
from lymphoml.reports.page.sections.calibration import LEGEND, decision_chart
from lymphoml.reports.page.sections.tripod_items import ITEMS
from lymphoml.reports.triage import set_rule
from lymphoml.runs.finished_run import read_run
from lymphoml.runs.test_set_log import UsageCount, record
from tests.reports.enrich import enrich
from tests.reports.fabricate import config, make_predictions, make_run

ANY = Choices()
WHITE = {"column": "white_cells", "max": 8.5}


def small(path, **changes):
    return make_run(path, config(**{"data.folds": 2, **changes}), n=30, epochs=3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return read_run(make_run(tmp_path_factory.mktemp("runs") / "run", n=60, epochs=6))


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.51, 0.9, "better than chance"),
        (0.5, 0.9, "not told apart from chance"),
        (0.1, 0.49, "worse than chance"),
    ],
)
def test_the_verdict_is_the_intervals(low, high, said):
    assert headline.verdict({"value": (low + high) / 2, "low": low, "high": high}) == said


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.01, 0.2, "more than"), (-0.2, -0.01, "less than"), (-0.1, 0.1, "not told apart")],
)
def test_the_gain_is_believed_by_its_interval_alone(low, high, said):
    gain = {"all": {"balanced_accuracy": {"value": 0.1, "low": low, "high": high}}}
    assert headline.gain_verdict(gain).startswith(said)
    assert headline.gain_verdict(None) is None


def test_repeats_count_each_patient_once_in_the_scores(tmp_path):
    run = read_run(small(tmp_path / "run", **{"data.repeats": 2}))
    scores = run_scores(run)
    assert headline.content(run, ANY)["n"] == {"patients": 30, "tumoral": 20, "reactive": 10}
    pooled = (scores["sensitivity"]["value"] + scores["specificity"]["value"]) / 2
    assert pooled == pytest.approx(run.metrics["balanced_accuracy"]["value"])
    found = scores["sensitivity"]["value"] * 20  # of 20 patients, not of 40 rows
    assert scores["sensitivity"]["low"] == pytest.approx(wilson(found, 20).low)
    rows = discrimination.content(run, ANY)["confusion"]
    assert [row["total"] for row in rows] == [40, 20]


def test_the_average_over_repeats_stands_beside_the_scores(tmp_path):
    run = read_run(small(tmp_path / "run", **{"data.repeats": 3}))
    averaged = run.metrics["averaged"]["scores"]["all"]
    told = comparison.content(run, ANY)
    assert told["measured"] == ["all", "everybody, mean of 3 repeats"]
    measures = dict(told["measures"])
    assert measures["Specificity at sensitivity 0.95"][1] == averaged["specificity_at_95"]
    top = render("x", "headline", headline.content(run, ANY), [])
    assert "averaged over the 3 repeats" in top
    assert f"{averaged['auroc']['value']:.3f}" in top
    once = read_run(small(tmp_path / "once"))
    assert comparison.content(once, ANY)["measured"] == ["all"]
    assert "averaged" not in render("x", "headline", headline.content(once, ANY), [])


def test_what_is_spared_stands_beside_the_sensitivity_reached(run):
    reached = run.metrics["thresholds"]["nested_95"]
    shown = render("x", "comparison", comparison.content(run, ANY), [])
    for name in ("sensitivity", "specificity"):
        value, low, high = (f"{reached[name][key]:.3f}" for key in ("value", "low", "high"))
        assert f"{name} <b>{value}</b>\n({low} to {high})" in shown


def test_what_a_run_tells_of_its_strata_is_taken_as_told(tmp_path):
    run = read_run(enrich(small(tmp_path / "run")))
    assert run_scores(run, "hard")["brier"]["value"] == pytest.approx(0.781)
    assert set(baseline_scores(run, "hard")) == {"logistic regression"}
    assert set(baseline_scores(run)) == {"logistic regression", "prevalence"}
    told = comparison.content(run, ANY)
    ((reference, gained),) = told["gains"]
    assert reference == "logistic regression on the clinical values"
    assert [(who, measure) for who, measure, _ in gained] == [
        ("all", "Balanced accuracy"), ("hard stratum", "Balanced accuracy"),
    ]  # fmt: skip
    run.metrics["image_gain"] = run.metrics["gain"] | {"reference": "morphology"}
    references = [reference for reference, _ in comparison.content(run, ANY)["gains"]]
    words = "the clinical values"
    assert references == [f"logistic regression on {words}", f"morphology, stacked with {words}"]
    assert [invalid for *_, invalid in told["thresholds"]] == [False, False, True]
    assert len(told["measures"]) == 8


@pytest.mark.parametrize(
    ("declared", "accuracy", "said", "charts"),
    [
        ({}, 0.7, "Patients of the declared column at most 8.5", 2),  # an earlier run
        ({"data.hard_stratum": None}, None, "None is declared", 0),
        ({"data.hard_stratum": WHITE}, None, "one class only among patients of white cells", 0),
        ({"data.hard_stratum": WHITE}, 0.7, "Patients of white cells at most 8.5", 2),
    ],
)
def test_the_hard_stratum_is_named_by_its_column_or_why_it_is_empty(
    tmp_path, declared, accuracy, said, charts
):
    run = read_run(enrich(small(tmp_path / "run", **declared)))
    run.metrics["hard_max"] = 8.5
    run.metrics["baselines"]["count_rule"] = run.metrics["baselines"]["logistic_regression"]
    run.metrics["scores"]["hard"]["balanced_accuracy"]["value"] = accuracy
    page = render("", "hard", hard.content(run, ANY), [])
    assert said in " ".join(page.split())
    assert page.count('class="chart') == charts
    assert ("white cells rule" in page) == (
        declared.get("data.hard_stratum") is WHITE and charts > 0
    )


def test_confusion_counts_by_hand():
    rows = pd.DataFrame(
        {
            "label": [1, 1, 0, 0, 1, 1, 0, 0],
            "probability": [0.9, 0.5, 0.2, 0.7, 0.8, 0.6, 0.1, 0.1],  # 0.5 is not above 0.5
        }
    )
    tumoral, reactive = discrimination.confusion(rows)
    assert [cell["count"] for cell in tumoral["cells"]] == [3, 1]
    assert [cell["count"] for cell in reactive["cells"]] == [1, 3]
    assert [cell["right"] for cell in reactive["cells"]] == [False, True]


def test_the_curves_enclose_the_area_that_scikit_learn_finds(run):
    rows = run.predictions
    _, curve, point = discrimination.roc_chart([rows]).series
    assert auc(curve.x, curve.y) == pytest.approx(
        roc_auc_score(rows["label"], rows["probability"]), abs=1e-3
    )
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    scores = headline.content(run, ANY)["cards"]
    assert point.y == [pytest.approx(scores["sensitivity"]["value"])]
    assert point.x == [pytest.approx(1 - scores["specificity"]["value"])]
    _, curve, point = discrimination.precision_chart([rows]).series
    area = -np.sum(np.diff([*curve.x, 0]) * np.array(curve.y))
    expected = average_precision_score(rows["label"], rows["probability"])
    assert area == pytest.approx(expected, abs=1e-3)
    assert point.x == [pytest.approx(scores["sensitivity"]["value"])]
    assert "sensitivity" in discrimination.roc_chart([rows]).series[1].told[3]


def test_the_reliability_curve_is_scikit_learns_of_the_first_repeat(tmp_path):
    settings = config(**{"data.folds": 2, "data.repeats": 2})
    run = read_run(make_run(tmp_path / "run", settings, n=100, epochs=2))
    told = calibration.content(run, ANY)
    rows = run.predictions.head(100)
    share, mean = calibration_curve(
        rows["label"], rows["probability"], n_bins=10, strategy="quantile"
    )
    points = told["reliability"].series[1]
    assert points.y == pytest.approx(share)
    assert points.x == pytest.approx(mean)
    assert points.y_interval[0] == pytest.approx(wilson(10 * share[0], 10))
    assert (told["bins"], told["repeats"]) == (10, 2)
    assert told["fitted"]["slope"]["low"] < told["fitted"]["slope"]["value"]


def test_a_bin_holds_five_patients(tmp_path):
    run = read_run(small(tmp_path / "run"))
    assert calibration.content(run, ANY)["bins"] == 6  # of 30


def test_the_decision_curve_leaves_out_where_testing_all_dives():
    curve = pd.DataFrame(
        {
            "threshold": [0.1, 0.3, 0.5], "net_benefit": [0.6, 0.5, 0.4], "low": [0.5, 0.4, -0.1],
            "high": [0.7, 0.6, 0.5], "all": [0.6, 0.2, -0.4], "none": [0.0, 0.0, 0.0],
        }
    )  # fmt: skip
    series = {each.name: each for each in decision_chart(curve).series if each.named}
    assert series["tests for all"].y == [0.6, 0.2]
    assert series["this run"].y == [0.6, 0.5, 0.4]
    assert "0.400 (−0.100 to 0.500), tests for all −0.400" in series["this run"].told[2]


def test_bold_probabilities_are_mended_by_either_scaler(tmp_path):
    rows = make_predictions(600, 3, 2, 2.0, seed=0)
    odds = (rows["probability"] / (1 - rows["probability"])) ** 8
    bold = rows.assign(probability=odds / (1 + odds))
    path = make_run(tmp_path / "run", config(**{"data.folds": 3, "data.repeats": 2}), epochs=2,
                    predictions=bold)  # fmt: skip
    told = calibration.content(read_run(path), ANY)
    (first, before, _, worst), *scaled = told["recalibrated"]
    assert (first, [row[0] for row in scaled]) == ("as trained", ["Platt scaling", "temperature"])
    assert before == pytest.approx(told["fitted"]["slope"])
    label = bold["label"].head(600)  # of the first repeat
    assert worst["value"] == pytest.approx(((bold["probability"].head(600) - label) ** 2).mean())
    for _, slope, _, brier in scaled:
        assert slope["low"] < 1 < slope["high"]
        assert before["high"] < 1
        assert brier["value"] < worst["value"]
    assert "Platt scaling" in render("", "calibration", told, [])


def test_no_scaler_is_fitted_where_the_other_folds_lack_a_class():
    rows = pd.DataFrame({"patient": list("abcd"), "fold": [0, 0, 1, 1], "label": [1, 0, 1, 1],
                         "probability": [0.9, 0.1, 0.8, 0.7]})  # fmt: skip
    assert calibration.recalibrated(rows, 2) == []


def test_the_decision_curve_takes_another_prevalence_and_the_clinical_values(tmp_path):
    path = small(tmp_path / "run")
    run = read_run(path)
    assert LEGEND not in render("", "calibration", calibration.content(run, ANY), [])
    table = run.predictions[["patient", "fold"]].assign(logistic_regression=0.2)
    table.iloc[::-1].to_csv(path / "baselines.csv", index=False)
    told = calibration.content(run, Choices(prevalence=0.3))
    series = {each.name: each for each in told["decision"].series if each.named}
    all_at_a_tenth = 0.3 - 0.7 * 0.1 / 0.9
    assert series["tests for all"].y[9] == pytest.approx(all_at_a_tenth)
    # 0.2 where classes count alike is odds of 3 / 28 at 0.3: 0.097 sends everybody or nobody.
    assert series[LEGEND].y[8] == pytest.approx(0.3 - 0.7 * 0.09 / 0.91)
    assert series[LEGEND].y[9] == 0
    page = " ".join(render("", "calibration", told, []).split())
    assert "set to 0.300 (this cohort's is 0.667)" in page
    assert "this run's from 0.667, the logistic regression's from 0.500." in page


@pytest.mark.parametrize("prevalence", [None, 0.2])
def test_net_benefit_does_not_hang_on_how_training_weighed_the_classes(tmp_path, prevalence):
    """One model made for three prevalences: the cohort's 2/3, 1/2, and 6/7 by a weight of 3."""
    plain = make_predictions(30, 2, 1, 2.0, seed=0)
    choices, curves = Choices(prevalence=prevalence), []
    for name, weight, made_for in (("a", None, 2 / 3), ("b", "balanced", 0.5), ("c", 3, 6 / 7)):
        rows = plain.assign(probability=shift_prevalence(plain["probability"], 2 / 3, made_for))
        changes = {"data.folds": 2, "loss.pos_weight": weight}
        path = make_run(tmp_path / name, config(**changes), epochs=1, predictions=rows)
        clinical = shift_prevalence(plain["probability"], 2 / 3, 0.5)
        rows[["patient", "fold"]].assign(logistic_regression=clinical).to_csv(
            path / "baselines.csv", index=False
        )
        told = calibration.content(read_run(path), choices)
        series = {each.name: each.y for each in told["decision"].series}
        curves += [series["this run"], series[LEGEND]]
        assert told["trained_prevalence"] == pytest.approx(made_for)
        page = " ".join(render("", "calibration", told, []).split())
        assert ("that alone makes an intercept of" in page) == (weight is not None)
        if weight == "balanced":
            assert "an intercept of +0.693" in page  # the logarithm of odds of 2 to 1
    for curve in curves[1:]:
        assert curve == pytest.approx(curves[0])


def test_each_fold_is_drawn_with_its_last_and_its_best_epoch(run):
    told = learning.content(run, ANY)
    assert len(told["accuracy"]) == len(told["loss"]) == 5
    for chart, history in zip(told["accuracy"], run.histories.values(), strict=True):
        scores = history["val/balanced_accuracy"]
        *_, curve, best, last = chart.series
        assert list(curve.y) == list(scores)
        assert list(curve.x) == [1, 2, 3, 4, 5, 6]
        assert (best.y, best.x) == ([scores.max()], [scores.argmax() + 1])
        assert last.y == [scores.iloc[-1]]
    assert told["epochs"][0][1] == [
        history["val/balanced_accuracy"].iloc[0] for history in run.histories.values()
    ]


@pytest.mark.parametrize(
    ("folds", "per_repeat", "panels", "behind"),
    [(20, 5, 20, 5), (25, 5, 5, 5), (30, 30, 20, 20), (1, 5, 1, 1)],
)
def test_panels_and_what_is_grey_in_them_are_few(folds, per_repeat, panels, behind):
    told = learning.drawn(list(range(folds)), per_repeat)
    assert len(told) == panels
    assert {len(beside) for beside in told.values()} == {behind}
    assert all(fold in beside for fold, beside in told.items())


def test_a_run_validated_now_and_then_or_never_is_drawn_all_the_same(tmp_path):
    path = small(tmp_path / "run")
    for fold, scores in ((0, [np.nan, 0.6, np.nan]), (1, [np.nan] * 3)):
        file = path / f"fold-{fold}" / "history.csv"
        pd.read_csv(file).assign(**{"val/balanced_accuracy": scores}).to_csv(file, index=False)
    first, second = learning.content(read_run(path), ANY)["accuracy"]
    assert [list(series.x) for series in first.series if series.mark] == [[2], [2]]
    assert all(series.colour == "rule" for series in second.series)


def test_folds_without_a_score_are_left_out_of_the_chart(run, tmp_path):
    path = small(tmp_path / "run")
    metrics = json.loads((path / "metrics.json").read_text())
    metrics["folds"][0] |= {"best_epoch": None, "best_epoch_balanced_accuracy": None}
    (path / "metrics.json").write_text(json.dumps(metrics))
    chart = folds.content(read_run(path), ANY)["chart"]
    best, last = chart.series[-2:]
    assert (best.x, last.x) == ([2], [1, 2])
    assert last.y == [fold["balanced_accuracy"] for fold in metrics["folds"]]
    means = folds.content(run, ANY)["means"]
    scores = [fold["auroc"] for fold in run.metrics["folds"]]
    assert means["std"]["auroc"] == pytest.approx(np.std(scores, ddof=1))


def test_a_group_that_cannot_be_estimated_keeps_its_row_empty(tmp_path):
    run = read_run(enrich(small(tmp_path / "run")))
    sensitivity, specificity = subgroups.content(run, ANY)["charts"]
    assert [series.y for series in sensitivity.series[1:]] == [[0], [1]]
    assert [series.y for series in specificity.series[1:]] == [[1]]
    assert list(specificity.y.ticks.values()) == ["sex: F", "sex: M"]


def test_the_rule_of_triage_is_told_by_guarantee_and_where_it_abstains(tmp_path):
    path = small(tmp_path / "run")
    run = read_run(path)
    assert triage.content(run, ANY) == {"rule": None}
    set_rule(path, 0.9, "average", None, Console(file=io.StringIO()))
    told = triage.content(run, ANY)
    rule = json.loads((path / "triage.json").read_text())
    assert told["outcomes"] == [
        ("average", "on average", rule["outcomes"]["average"]),
        ("confidence", "in 95 % of cohorts", rule["outcomes"]["confidence"]),
    ]
    assert told["outcomes"][1][2]["rank"] == 0  # 20 tumoral patients are too few
    page = render("", "triage", told, [])
    assert f"below <strong>{rule['threshold']:.4f}</strong>" in page
    needed = rule["n_tumoral_needed"]["confidence"]
    assert f"abstains: nobody is spared; it would need {needed} tumoral patients" in page
    assert html.escape(rule["assumed"][0]) in page


def test_what_was_tried_counts_neighbours_and_draws_those_on_the_same_folds(tmp_path):
    same = make_predictions(30, 2, 1, 2.0, seed=0)
    for name, predictions in (("a", same), ("b", same), ("c", None)):
        settings = config(**{"data.folds": 2, "lr": float(ord(name))})
        make_run(tmp_path / name, settings, n=30, epochs=2, seed=5, predictions=predictions)
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "config.yaml").write_text("lr: 1")
    record(tmp_path / "a", "predict", "ab", 4)
    record(tmp_path / "b", "predict", "ab", 4)
    told = tried.content(read_run(tmp_path / "a"), ANY)
    assert (told["tried"], told["comparable"]) == (4, 2)
    assert told["count_uses"] == UsageCount(uses=2, files=1, attempts=0, confirmed=0, torn=0)
    assert len(told["chart"].named) == 2
    told = tried.content(read_run(tmp_path / "c"), ANY)
    assert (told["comparable"], told["chart"]) == (1, None)


def test_the_audit_is_counted_errors_first_and_names_nobody(run, tmp_path):
    path = tmp_path / "audit.json"
    findings = [
        {"severity": "warning", "what": "1 pair shares a birth date", "where": ["Zebra77"]},
        {"severity": "error", "topic": "image", "what": "truncated"},
        {"severity": "error", "topic": "image", "what": "truncated"},
    ]
    path.write_text(json.dumps({"findings": findings}))
    told = audit.content(run, Choices(audit=path))
    assert told["severities"] == [("error", 2), ("warning", 1)]
    assert told["rows"] == [
        ("error", "image", "truncated", 2), ("warning", "", "1 pair shares a birth date", 1),
    ]  # fmt: skip
    assert audit.content(run, Choices(audit=path, ids=True)) == told


def test_an_audit_of_another_cohort_is_refused_where_it_tells(run, tmp_path):
    path, unknown = tmp_path / "audit.json", "Whether this audit is of the run's cohort is not"
    for content, said in (
        ({"fingerprint": "f00d"}, False),
        ({}, True),
        ({"fingerprint": None}, True),
    ):
        path.write_text(json.dumps({"findings": []} | content))
        page = render("", "audit", audit.content(run, Choices(audit=path)), [])
        assert (unknown in " ".join(page.split())) == said
    path.write_text(json.dumps({"findings": [], "fingerprint": "badc0ffee"}))
    with pytest.raises(InputError, match="an audit of another cohort than the run's"):
        audit.content(run, Choices(audit=path))


def test_every_item_of_tripod_is_answered_or_owed(run, tmp_path):
    numbers = [number for number, *_ in ITEMS]
    assert len(numbers) == len(set(numbers)) == 52
    assert {number.rstrip("abcdefg") for number in numbers} == {str(n) for n in range(1, 28)}
    told = tripod.content(run, ANY)
    assert sum(told["counts"].values()) == 52
    rows = {row[0]: row[3:] for row in told["rows"]}
    assert rows["17"][0] == "missing"
    assert rows["12d"][0] == "not applicable"
    assert rows["20a"] == ("filled", "60 patients: 40 tumoral, 20 reactive")
    assert "Mee 1984" in rows["12e"][1]  # as evaluation/intervals.py has it
    assert rows["14"][0] == "missing"
    rich = read_run(enrich(small(tmp_path / "run", pos_weight="balanced")))
    rows = {row[0]: row[3:] for row in tripod.content(rich, ANY)["rows"]}
    assert rows["14"][0] == "filled"
    assert "balanced" in rows["13"][1]


@pytest.mark.parametrize(
    ("fusion", "told"),
    [
        ("Concat", "images of cells, age, lymphocyte_count"),
        ("NoClinical", "images of cells"),
        ("ClinicalOnly", "age, lymphocyte_count"),
    ],
)
def test_tripod_names_the_predictors_that_the_model_sees(tmp_path, fusion, told):
    target = {"model.fusion._target_": f"lymphoml.models.fusion.{fusion}"}
    rows = tripod.content(read_run(small(tmp_path / "run", **target)), ANY)["rows"]
    assert next(row[4] for row in rows if row[0] == "9b") == told


def test_tripod_tells_of_persons_kept_together_only_where_they_can_be_suspected(tmp_path):
    birth = {"kind": "date_of_birth", "column": "DOB"}
    sex = {"kind": "categorical", "column": "SEX", "values": {"F": "F"}}
    for name, columns, told in (("a", {"age": birth, "sex": sex}, True),
                                ("b", {"age": {"kind": "numeric"}, "sex": sex}, False),
                                ("c", {"age": birth}, False)):  # fmt: skip
        run = read_run(small(tmp_path / name, **{"data.columns": columns}))
        answers = {row[0]: row[4] for row in tripod.content(run, ANY)["rows"]}
        assert ("one person share a fold" in answers["12a"]) == told


def test_tripod_tells_no_optimiser_where_all_is_fitted(tmp_path):
    columns = {"age": {"kind": "numeric"}, "lymphocyte_count": {"kind": "numeric", "log": True}}
    changes = {"model.fusion.image_penalty": 0.02, "data.folds_csv": "mine.csv",
               "data.columns": columns, "data.clinical": ["age"],
               "data.standardize_clinical": True}  # fmt: skip
    rows = tripod.content(read_run(small(tmp_path / "run", **changes)), ANY)["rows"]
    told = {row[0]: row[4] for row in rows}
    assert "fitted to the training patients at once" in told["12c"]
    assert "epochs" not in told["12c"]
    assert "folds of a given file" in told["12a"]
    assert told["12b"] == "clinical values standardised on the training patients"


def test_paths_of_the_machine_stay_there(tmp_path):
    places = {"data.root": "/home/someone/cohort", "data.folds_csv": "/home/someone/mine.csv"}
    run = read_run(small(tmp_path / "run", **places))
    shown = configuration.content(run, ANY)["settings"]["data"]
    assert "root" not in shown
    assert shown["folds_csv"] == ".../mine.csv"


@pytest.mark.parametrize("environment", [None, {}, {"versions": {}, "git_commit": None}])
def test_a_run_that_tells_little_of_its_environment(tmp_path, environment):
    path = small(tmp_path / "run")
    (path / "environment.json").unlink()
    if environment is not None:
        (path / "environment.json").write_text(json.dumps(environment))
    content = configuration.content(read_run(path), ANY)
    assert content["command"] is None
    assert set(content["made_with"].values()) == {"not told"}
    assert content["versions"] == {"packages": "not told"}
