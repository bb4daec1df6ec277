import json
import math

import numpy as np
import pandas as pd
import pytest

from lymphoml.evaluation.intervals import auroc_interval, balanced_accuracy_interval, delong, wilson
from lymphoml.evaluation.metrics import SCORES, score_fold
from lymphoml.evaluation.paired import paired_differences
from lymphoml.evaluation.pooled import pool
from lymphoml.evaluation.summary import subgroups, summarise
from tests.reports.fabricate import make_baselines, make_predictions

N, FOLDS = 120, 4
PATIENTS = [f"Zebra{i}" for i in range(N)]
LABELS = (np.arange(N) % 3 > 0).astype(int)
HEADLINE = ("balanced_accuracy", "auroc")


def predictions(skill=2.0, repeats=1):
    return make_predictions(N, FOLDS, repeats, skill, seed=1)


def baselines_for(table, **skills):
    """In another order of rows."""
    return make_baselines(table, **skills).sample(frac=1, random_state=0)


def summary(table, **more):
    history = pd.DataFrame({"epoch": range(3), "val/balanced_accuracy": [0.5, 0.9, 0.7]})
    return summarise(table, {int(fold): history for fold in table["fold"].unique()}, FOLDS, **more)


@pytest.fixture
def strata():
    hard = np.where(np.arange(N) % 2 == 0, "1", "0")
    return pd.DataFrame({"hard": hard, "sex": np.where(np.arange(N) < 50, "F", "M")}, PATIENTS)


def test_scores_pool_the_out_of_fold_predictions_with_their_intervals():
    table = predictions()
    found = summary(table)
    exact = score_fold(table["label"], table["probability"])
    called = table["probability"] > 0.5
    m, n = LABELS.sum(), (1 - LABELS).sum()
    value, variance = delong(LABELS, table["probability"])
    limits = {
        "balanced_accuracy": balanced_accuracy_interval(
            (LABELS * called).sum(), m, ((1 - LABELS) * ~called).sum(), n
        ),
        "auroc": auroc_interval(value, variance, m, n),
        "sensitivity": wilson(exact["sensitivity"] * m, m),
        "specificity": wilson(exact["specificity"] * n, n),
    }
    scores = found["scores"]["all"]
    assert found["n_patients"] == N
    assert set(scores) == set(SCORES)
    for name, score in scores.items():
        assert score["value"] == pytest.approx(exact[name])
        assert score["low"] < score["value"] < score["high"]
    for name, (low, high) in limits.items():
        assert scores[name] == pytest.approx({"value": exact[name], "low": low, "high": high})
    assert {name: found[name] for name in HEADLINE} == {name: scores[name] for name in HEADLINE}


def test_each_fold_has_the_scores_and_intervals_of_its_own_patients():
    table = predictions()
    folds = summary(table)["folds"]
    assert [fold["fold"] for fold in folds] == [0, 1, 2, 3]
    for fold in folds:
        rows = table[table["fold"] == fold["fold"]]
        assert score_fold(rows["label"], rows["probability"]).items() <= fold.items()
        for name, score in pool(rows, 1, HEADLINE).items():
            limits = {"low": fold[f"{name}_low"], "high": fold[f"{name}_high"]}
            assert score == {"value": fold[name]} | limits


def test_the_best_epoch_is_the_first_of_ties_and_kept_apart_from_the_score():
    table = predictions()
    tied = pd.DataFrame({"epoch": range(4), "val/balanced_accuracy": [0.5, 0.8, 0.8, 0.7]})
    curves = dict.fromkeys(range(FOLDS), tied)
    curves[2] = pd.DataFrame(
        {"epoch": [0, 1, 2], "val/balanced_accuracy": [math.nan, 0.6, 0.9]}, index=[7, 7, 7]
    )
    found = summarise(table, curves, FOLDS)
    assert [fold["best_epoch"] for fold in found["folds"]] == [1, 1, 2, 1]
    best = [0.8, 0.8, 0.9, 0.8]
    expected = {"mean": np.mean(best), "std": np.std(best, ddof=1)}
    assert found["best_epoch_balanced_accuracy"] == pytest.approx(expected)
    mean = np.mean([fold["balanced_accuracy"] for fold in found["folds"]])
    assert found["best_epoch_gap"] == pytest.approx(np.mean(best) - mean)


def test_repeats_average_scores_and_keep_the_width_of_one():
    table = predictions(repeats=2)
    halves = [rows for _, rows in table.groupby(table["fold"] // FOLDS)]
    both, each = summary(table), [summary(rows) for rows in halves]
    assert both["n_patients"] == N
    for name in HEADLINE:
        widths = [found[name]["high"] - found[name]["low"] for found in each]
        value = np.mean([found[name]["value"] for found in each])
        assert both[name]["value"] == pytest.approx(value)
        width = both[name]["high"] - both[name]["low"]
        assert min(widths) * 0.99 <= width <= max(widths) * 1.01
    assert each[0]["split_std"] is None
    for name in (*HEADLINE, "specificity_at_95"):
        values = [found["scores"]["all"][name]["value"] for found in each]
        assert both["split_std"][name] == pytest.approx(np.std(values, ddof=1))


def test_undefined_scores_become_null_and_the_rest_plain_numbers():
    table = predictions()
    table["fold"] = table["label"]  # one class per fold
    curve = pd.DataFrame({"epoch": [0, 1], "val/balanced_accuracy": [0.5, 0.8]})
    found = summarise(table, {0: curve, 1: curve.assign(**{"val/balanced_accuracy": math.nan})}, 2)
    reactive, tumoral = json.loads(json.dumps(found, allow_nan=False))["folds"]
    assert reactive["balanced_accuracy"] is None
    assert reactive["best_epoch"] == 1
    assert tumoral["auroc"] is None
    assert tumoral["best_epoch"] is None
    assert tumoral["best_epoch_balanced_accuracy"] is None
    assert found["balanced_accuracy"]["low"] is not None


def test_the_hard_stratum_has_scores_of_its_own(strata):
    table = predictions()
    strata.loc[PATIENTS[:12], "hard"] = "unknown"  # in neither part
    found = summary(table, strata=strata, hard_max=8.0)
    assert found["scores"]["hard"] == pool(table[12::2], FOLDS)
    assert found["hard_max"] == 8.0
    assert {(row["by"], row["group"]) for row in found["subgroups"]} == {
        ("hard", "0"), ("hard", "1"), ("hard", "unknown"), ("sex", "F"), ("sex", "M")
    }  # fmt: skip
    assert summary(table)["scores"]["hard"] is None


def test_scores_without_persons_of_several_records_are_those_of_the_other_patients(strata):
    single = np.arange(N) % 5 > 0
    several = strata.assign(**{"records of the person": np.where(single, "one", "several")})
    table = predictions(repeats=2)
    found = summary(table, strata=several, persons={"several": 7})
    assert found["persons"] == {"several": 7}
    alone = table[table["patient"].isin(several.index[single])]
    means = alone.drop(columns="fold").groupby("patient", as_index=False).mean().assign(fold=0)
    for part, rows in ((found, alone), (found["averaged"], means)):
        hard = rows[rows["patient"].map(strata["hard"]) == "1"]
        expected = {"all": pool(rows, FOLDS, HEADLINE), "hard": pool(hard, FOLDS, HEADLINE)}
        assert part["single_records"] == expected
        assert part["single_records"]["all"]["auroc"] != part["scores"]["all"]["auroc"]
    assert summary(table, strata=strata)["single_records"] is None


def test_a_gain_is_the_difference_to_a_baseline_on_the_same_patients(strata):
    table = predictions(3.0)
    baselines = baselines_for(table, logistic_regression=1.0, morphology=0.5, random_features=2.0)
    found = summary(table, strata=strata, baselines=baselines.assign(prevalence=0.66))
    assert found["gain"]["reference"] == "logistic_regression"
    assert found["image_gain"]["reference"] == "random_features"  # the better one
    for gain in (found["gain"], found["image_gain"]):
        for part in ("all", "hard"):
            reference = found["baselines"][gain["reference"]][part]
            for name in HEADLINE:
                expected = found["scores"][part][name]["value"] - reference[name]["value"]
                assert gain[part][name]["value"] == pytest.approx(expected)
                assert gain[part][name]["low"] < expected < gain[part][name]["high"]
    assert found["gain"]["all"]["auroc"]["p"] < 0.01
    assert found["baselines"]["prevalence"]["all"]["balanced_accuracy"]["value"] == 0.5


def test_without_its_reference_there_is_no_gain():
    table = predictions(repeats=2)
    same = table[["patient", "fold"]].assign(logistic_regression=table["probability"])
    found = summary(table, baselines=same)
    assert list(found["gain"]["all"]["auroc"].values()) == [0.0, 0.0, 0.0, 1.0, 0.0]
    assert found["image_gain"] is None
    assert summary(table, baselines=baselines_for(table, prevalence=0.0))["gain"] is None
    assert summary(table)["gain"] is None


def test_each_patients_mean_over_repeats_is_scored_once(strata):
    table = predictions(repeats=3).sample(frac=1, random_state=1)
    baselines = baselines_for(table, logistic_regression=1.0)
    found = summary(table, strata=strata, baselines=baselines)["averaged"]
    by_patient = table.groupby("patient")[["label", "probability"]].mean()
    labels, candidate = by_patient.to_numpy().T
    reference = baselines.groupby("patient")["logistic_regression"].mean().to_numpy()
    assert found["repeats"] == 3
    hard = strata["hard"].sort_index().to_numpy() == "1"
    for part, chosen in (("all", slice(None)), ("hard", hard)):
        for scores, mean in (
            (found["scores"], candidate),
            (found["baselines"]["logistic_regression"], reference),
        ):
            expected = score_fold(labels[chosen], mean[chosen])
            for name in SCORES:
                assert scores[part][name]["value"] == pytest.approx(expected[name])
    for name, difference in paired_differences(labels, candidate, reference).items():
        assert found["gain"]["all"][name] == pytest.approx(difference._asdict())
    assert summary(table[table["fold"] < FOLDS])["averaged"] is None


def test_subgroups_have_rates_from_ten_patients_of_a_class_on():
    """Twelve tumoral women, nine called rightly; four reactive women and eleven men, all right."""
    right = np.repeat([True, False, True], [9, 3, 15])
    label = np.repeat([1, 0], [12, 15])
    table = pd.DataFrame(
        {"patient": [f"P{i}" for i in range(27)], "label": label,
         "probability": np.where(right == (label == 1), 0.9, 0.1)}
    )  # fmt: skip
    groups = pd.DataFrame({"sex": np.repeat(["F", "M"], [16, 11])}, table["patient"])
    female, male = subgroups(table, groups)
    low, high = wilson(9, 12)
    assert female == {
        "by": "sex", "group": "F", "n_tumoral": 12, "n_reactive": 4, "specificity": None,
        "sensitivity": pytest.approx({"value": 0.75, "low": low, "high": high}),
    }  # fmt: skip
    assert (male["n_tumoral"], male["sensitivity"], male["specificity"]["value"]) == (0, None, 1.0)
    wrong = table.assign(probability=1 - table["probability"])
    twice = subgroups(pd.concat([table, wrong]), groups)[0]  # repeats add no patient
    assert (twice["n_tumoral"], twice["sensitivity"]["value"]) == (12, pytest.approx(0.5))
