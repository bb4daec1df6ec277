"""The content of the sections, against counts by hand and other implementations."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from lymphoml.core.errors import InputError
from lymphoml.evaluation.intervals import wilson
from lymphoml.reports.page import Choices, background, curves, scores
from lymphoml.reports.page.folds import folds
from lymphoml.reports.page.page import render
from lymphoml.runs.finished_run import read_run
from lymphoml.runs.test_set_log import UsageCount, record
from tests.reports.fabricate import (
    config,
    edit_json,
    list_files,
    make_full_run,
    make_predictions,
    make_run,
    make_small_run,
)  # fmt: skip

ANY = Choices()
WHITE = {"column": "white_cells", "max": 8.5}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return read_run(make_run(tmp_path_factory.mktemp("runs") / "run", n=60, epochs=6))


def test_the_verdict_follows_from_the_intervals():
    for low, high, verdict in (
        (0.51, 0.9, "better than chance"), (0.1, 0.49, "worse than chance"),
        (0.5, 0.9, "not significantly different from chance"),
    ):  # fmt: skip
        score = {"value": (low + high) / 2, "low": low, "high": high}
        assert scores.verdict(score, 0.5, "chance") == verdict
    assert scores.verdict(None, 0, "chance") is None


def test_repeats_count_each_patient_once_in_the_scores(tmp_path):
    run = read_run(make_small_run(tmp_path / "run", **{"data.repeats": 2}))
    cards = dict(scores.summary(run, ANY)["cards"])
    assert scores.summary(run, ANY)["n"] == {"patients": 30, "tumoral": 20, "reactive": 10}
    found = cards["Sensitivity"]["value"] * 20  # of 20 patients, not of 40 rows
    assert cards["Sensitivity"]["low"] == pytest.approx(wilson(found, 20).low)
    assert [row["total"] for row in curves.discrimination(run, ANY)["confusion"]] == [40, 20]


def test_scores_gains_and_thresholds_are_those_of_metrics_json(tmp_path):
    run = read_run(make_full_run(tmp_path / "run", **{"data.repeats": 2}))
    content = scores.comparison(run, ANY)
    assert content["groups"] == ["all patients", "hard stratum", "all patients, mean of 2 repeats",
                                 "hard stratum, mean of 2 repeats"]  # fmt: skip
    brier = dict(content["measures"])["Brier score"]
    metrics = run.metrics
    assert brier == [
        values["scores"][stratum]["brier"]
        for values in (metrics, metrics["averaged"])
        for stratum in ("all", "hard")
    ]
    ((reference, gains),) = content["gains"]
    assert reference == "logistic regression"
    assert dict(gains)["AUROC, hard stratum"] == metrics["gain"]["hard"]["auroc"]
    assert len(content["thresholds"]) == 3
    page = render("", "comparison", content)
    assert f"{metrics['thresholds']['nested_95']['specificity']['value']:.3f}" in page
    top = render("", "summary", scores.summary(run, ANY))
    assert f"{metrics['averaged']['scores']['all']['auroc']['value']:.3f}" in top


@pytest.mark.parametrize(("stratum", "accuracy", "text", "charts"), [
    (None, 0.7, "No hard stratum is declared", 0), (WHITE, None, "only one class", 0),
    (WHITE, 0.7, "white cells at most 8.5", 2),
])  # fmt: skip
def test_the_hard_stratum_is_named_or_why_it_is_empty(tmp_path, stratum, accuracy, text, charts):
    run = read_run(make_full_run(tmp_path / "run", **{"data.hard_stratum": stratum}))
    run.metrics["scores"]["hard"]["balanced_accuracy"]["value"] = accuracy
    page = " ".join(render("", "comparison", scores.comparison(run, ANY)).split())
    assert text in page
    assert page.count('<svg class="chart') == charts
    assert ("white cells rule" in page) == (stratum is WHITE)


def test_confusion_counts_by_hand():
    probability = [0.9, 0.5, 0.2, 0.7, 0.8, 0.6, 0.1, 0.1]  # 0.5 is not above 0.5
    rows = pd.DataFrame({"label": [1, 1, 0, 0] * 2, "probability": probability})
    tumoral, reactive = curves.confusion(rows)
    assert [cell["count"] for cell in tumoral["cells"]] == [3, 1]
    assert [cell["count"] for cell in reactive["cells"]] == [1, 3]
    assert [cell["right"] for cell in reactive["cells"]] == [False, True]


def test_the_curves_enclose_the_area_that_scikit_learn_finds(run):
    rows = run.predictions
    _, curve, point = curves.roc_chart([rows]).series
    area = roc_auc_score(rows["label"], rows["probability"])
    assert auc(curve.x, curve.y) == pytest.approx(area, abs=1e-3)
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    scores = run.metrics["scores"]["all"]
    assert point.y == [pytest.approx(scores["sensitivity"]["value"])]
    assert point.x == [pytest.approx(1 - scores["specificity"]["value"])]
    _, curve, point = curves.precision_chart([rows]).series
    area = -np.sum(np.diff([*curve.x, 0]) * np.array(curve.y))
    expected = average_precision_score(rows["label"], rows["probability"])
    assert area == pytest.approx(expected, abs=1e-3)
    assert point.x == [pytest.approx(scores["sensitivity"]["value"])]


def test_learning_curves_are_the_histories_and_their_mean(run, tmp_path):
    content = folds(run, ANY)
    accuracy, _ = content["curves"]
    histories = [each["val/balanced_accuracy"].to_numpy() for each in run.histories.values()]
    _, *lines, mean = accuracy.series
    for line, history in zip(lines, histories, strict=True):
        assert list(line.y) == pytest.approx(history, abs=1e-4)
    assert list(mean.x) == [1, 2, 3, 4, 5, 6]
    assert list(mean.y) == pytest.approx(np.mean(histories, axis=0), abs=1e-4)
    path = make_small_run(tmp_path / "sparse")  # validated now and then, or never
    for fold, values in ((0, [np.nan, 0.6, np.nan]), (1, [np.nan] * 3)):
        file = path / f"fold-{fold}" / "history.csv"
        pd.read_csv(file).assign(**{"val/balanced_accuracy": values}).to_csv(file, index=False)
    list_files(path)
    accuracy, loss = folds(read_run(path), ANY)["curves"]
    assert [list(series.x) for series in accuracy.series[1:]] == [[2], [2]]
    assert len(loss.series) == 6


def test_folds_without_a_score_are_left_out_of_the_chart(tmp_path):
    run = read_run(make_small_run(tmp_path / "run"))
    metrics = run.metrics
    metrics["folds"][0] |= {"best_epoch": None, "best_epoch_balanced_accuracy": None}
    content = folds(run, ANY)
    best, last = content["chart"].series[-2:]
    assert (best.x, last.x) == ([2], [1, 2])
    assert last.y == [fold["balanced_accuracy"] for fold in metrics["folds"]]
    scores = [fold["auroc"] for fold in metrics["folds"]]
    assert content["ends"]["std"]["auroc"] == pytest.approx(np.std(scores, ddof=1))


def test_a_subgroup_that_cannot_be_estimated_has_an_empty_row(tmp_path):
    run = read_run(make_full_run(tmp_path / "run"))
    run.metrics["subgroups"][1]["specificity"] = None
    sensitivity, specificity = scores.subgroups(run, ANY)["charts"]
    assert [series.y for series in sensitivity.series[1:]] == [[0], [1], [2], [3]]
    assert [series.y for series in specificity.series[1:]] == [[0], [2], [3]]
    assert list(specificity.y.ticks.values())[:3] == ["hard stratum: no", "hard stratum: yes",
                                                      "sex: F"]  # fmt: skip


def test_multiplicity_counts_siblings_and_draws_those_on_the_same_folds(tmp_path):
    same = make_predictions(30, 2, 1, 2.0, seed=0)
    for name, predictions in (("a", same), ("b", same), ("c", None)):
        settings = config(**{"data.folds": 2, "lr": float(ord(name))})
        make_run(tmp_path / name, settings, n=30, epochs=2, seed=5, predictions=predictions)
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "config.yaml").write_text("lr: 1")
    record(tmp_path / "a", "predict", "ab", 4)
    record(tmp_path / "b", "predict", "ab", 4)
    content = background.multiplicity(read_run(tmp_path / "a"), ANY)
    assert (content["tried"], content["comparable"]) == (4, 2)
    assert content["uses"] == UsageCount(uses=2, files=1, attempts=0, confirmed=0, torn=0)
    assert len(content["chart"].legend) == 2
    content = background.multiplicity(read_run(tmp_path / "c"), ANY)
    assert (content["comparable"], content["chart"]) == (1, None)


def test_the_audit_is_counted_errors_first_and_names_no_one(run, tmp_path):
    path = tmp_path / "audit.json"
    image = {"severity": "error", "topic": "image", "what": "truncated"}
    pair = {"severity": "warning", "what": "1 pair shares a birth date", "where": ["Zebra77"]}
    path.write_text(json.dumps({"findings": [pair, image, image]}))
    content = background.audit(run, Choices(audit=path))
    assert content["severities"] == [("error", 2), ("warning", 1)]
    assert content["rows"] == [("error", "image", "truncated", 2),
                               ("warning", "", "1 pair shares a birth date", 1)]  # fmt: skip
    assert not content["same_cohort_checked"]
    edit_json(path, fingerprint="f00dfeed")
    assert background.audit(run, Choices(audit=path))["same_cohort_checked"]
    edit_json(path, fingerprint="badc0ffee")
    with pytest.raises(InputError, match="another cohort"):
        background.audit(run, Choices(audit=path))
    run.environment["data_fingerprint"] = f"{'1' * 16}-{'2' * 16}"  # of table and images
    with pytest.raises(InputError, match="another cohort"):  # of an audit that has no images'
        background.audit(run, Choices(audit=path))
    edit_json(path, fingerprint="1" * 16)
    assert not background.audit(run, Choices(audit=path))["same_cohort_checked"]
    edit_json(path, images_fingerprint="2" * 16)
    assert background.audit(run, Choices(audit=path))["same_cohort_checked"]
    edit_json(path, images_fingerprint="3" * 16)
    with pytest.raises(InputError, match="another cohort"):
        background.audit(run, Choices(audit=path))


def answers(run, choices=ANY):
    return {row[0]: row[3:] for row in background.tripod(run, choices)["rows"]}


def test_every_item_of_tripod_is_filled_or_left_to_the_authors(run, tmp_path):
    content = background.tripod(run, ANY)
    numbers = [row[0] for row in content["rows"]]
    assert len(numbers) == len(set(numbers)) == sum(content["counts"].values()) == 52
    assert {number.rstrip("abcdefg") for number in numbers} == {str(n) for n in range(1, 28)}
    rows = answers(run)
    assert [rows[number][0] for number in ("17", "12d", "14", "7")] == [
        "missing", "not applicable", "missing", "missing",
    ]  # fmt: skip
    assert rows["20a"] == ("filled", "60 patients: 40 tumoral, 20 reactive")
    full = read_run(make_full_run(tmp_path / "run", loss={"pos_weight": "balanced"}))
    rows = answers(full, Choices(audit=tmp_path))
    assert (rows["14"][0], rows["7"][0]) == ("filled", "filled")
    assert "balanced" in rows["13"][1]


FUSION = "model.fusion._target_"
BIRTH = {"age": {"kind": "date_of_birth"}, "sex": {"kind": "categorical"},
         "lymphocyte_count": {"kind": "numeric", "log": True}}  # fmt: skip


@pytest.mark.parametrize(("changes", "item", "text"), [
    ({FUSION: "lymphoml.models.fusion.Concat"}, "9b", "images of cells, age, lymphocyte_count"),
    ({FUSION: "lymphoml.models.fusion.NoClinical"}, "9b", "images of cells"),
    ({FUSION: "lymphoml.models.fusion.ClinicalOnly"}, "9b", "age, lymphocyte_count"),
    ({"data.folds_csv": "mine.csv"}, "12a", "folds from a file"),
    ({"data.columns": BIRTH, "data.standardize_clinical": True}, "12b",
     "logarithm of lymphocyte_count"),
])  # fmt: skip
def test_tripod_describes_predictors_folds_and_scaling(tmp_path, changes, item, text):
    found = answers(read_run(make_small_run(tmp_path / "run", **changes)))[item][1]
    assert found == text if item == "9b" else text in found


def test_the_configuration_shows_no_path_and_what_is_not_recorded(tmp_path):
    changes = {"data.root": "/home/someone/cohort", "data.folds_csv": "/home/someone/mine.csv"}
    path = make_small_run(tmp_path / "run", **changes, **{"data.shuffle_bag_labels": True})
    assert "Control run" in render("", "summary", scores.summary(read_run(path), ANY))
    (path / "environment.json").write_text("{}")
    list_files(path)
    content = background.configuration(read_run(path), ANY)
    assert "root" not in content["settings"]["data"]
    assert content["settings"]["data"]["folds_csv"] == ".../mine.csv"
    assert content["command"] is None
    assert set(content["environment"].values()) == {"not recorded"}
