import numpy as np
import pandas as pd
import pytest

from lymphoml.evaluation.intervals import wilson
from lymphoml.evaluation.metrics import SCORES, score_fold
from lymphoml.evaluation.pooled import RESAMPLED, pool
from lymphoml.evaluation.summary import summarise

N, FOLDS = 120, 4
PATIENTS = [f"P{i}" for i in range(N)]
LABELS = (np.arange(N) % 3 > 0).astype(int)


def predictions(skill, seed, repeats=1):
    parts = []
    for repeat in range(repeats):
        random = np.random.default_rng([seed, repeat])
        logit = random.normal(skill * (LABELS - 0.5), 1.0)
        parts.append(
            pd.DataFrame(
                {
                    "patient": PATIENTS,
                    "fold": repeat * FOLDS + np.arange(N) % FOLDS,
                    "label": LABELS,
                    "probability": 1 / (1 + np.exp(-logit)),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def beside(table, skill, seed):
    other = predictions(skill, seed, table["fold"].nunique() // FOLDS)
    return other[["patient", "fold"]].assign(
        prevalence=0.66, logistic_regression=other["probability"]
    )


def summary(table, **more):
    history = pd.DataFrame({"epoch": range(3), "val/balanced_accuracy": [0.5, 0.9, 0.7]})
    curves = {int(fold): history for fold in table["fold"].unique()}
    return summarise(table, curves, FOLDS, **more)


@pytest.fixture
def strata():
    hard = np.where(np.arange(N) % 2 == 0, "1", "0")
    return pd.DataFrame({"hard": hard, "sex": np.where(np.arange(N) < 50, "F", "M")}, PATIENTS)


def test_every_score_has_its_value_between_its_limits():
    table = predictions(2.0, 0)
    scores = summary(table)["scores"]["all"]
    assert set(scores) == set(SCORES)
    exact = score_fold(table["label"], table["probability"])
    for name, score in scores.items():
        assert score["value"] == pytest.approx(exact[name])
        assert score["low"] < score["value"] < score["high"]
    low, high = wilson(exact["sensitivity"] * LABELS.sum(), int(LABELS.sum()))
    assert scores["sensitivity"] == pytest.approx(
        {"value": exact["sensitivity"], "low": low, "high": high}
    )


def test_the_hard_stratum_is_scored_apart(strata):
    table = predictions(2.0, 0)
    found = summary(table, strata=strata, hard_max=8.0)
    hard = table[np.arange(N) % 2 == 0]
    assert found["scores"]["hard"] == pool(hard, FOLDS)
    assert found["hard_max"] == 8.0
    assert {(row["by"], row["group"]) for row in found["subgroups"]} == {
        ("hard", "0"), ("hard", "1"), ("sex", "F"), ("sex", "M")
    }  # fmt: skip
    assert summary(table)["scores"]["hard"] is None


def test_where_the_stratum_is_unknown_a_patient_is_in_neither_part(strata):
    table = predictions(2.0, 0)
    strata.loc[PATIENTS[:12], "hard"] = "unknown"
    found = summary(table, strata=strata)
    assert found["scores"]["hard"] == pool(table[12::2], FOLDS)
    sizes = {
        row["group"]: row["n_tumoral"] + row["n_reactive"]
        for row in found["subgroups"]
        if row["by"] == "hard"
    }
    assert sizes == {"0": 54, "1": 54, "unknown": 12}


def test_gain_is_the_run_minus_the_regression_on_the_same_patients(strata):
    table = predictions(3.0, 0)
    baselines = beside(table, 1.0, 1)
    # In whatever order the rows of either come.
    found = summary(table, strata=strata, baselines=baselines.sample(frac=1, random_state=0))
    ours, theirs = found["scores"], found["baselines"]["logistic_regression"]
    for part in ("all", "hard"):
        for name in ("balanced_accuracy", "auroc"):
            gain = found["gain"][part][name]
            expected = ours[part][name]["value"] - theirs[part][name]["value"]
            assert gain["value"] == pytest.approx(expected)
            assert gain["low"] < gain["value"] < gain["high"]
    assert found["gain"]["all"]["auroc"]["p"] < 0.01
    assert found["baselines"]["prevalence"]["all"]["balanced_accuracy"]["value"] == 0.5


def test_nothing_is_gained_over_oneself():
    table = predictions(2.0, 0, repeats=2)
    same = table[["patient", "fold"]].assign(logistic_regression=table["probability"])
    gain = summary(table, baselines=same)["gain"]["all"]["auroc"]
    assert gain == {"value": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}


def test_without_a_regression_there_is_no_gain():
    table = predictions(2.0, 0)
    only = table[["patient", "fold"]].assign(prevalence=0.5)
    assert summary(table, baselines=only)["gain"] is None
    assert summary(table)["gain"] is None


def test_the_image_gain_is_over_the_better_baseline_of_images():
    table = predictions(3.0, 0)
    baselines = beside(table, 1.0, 1)
    better = beside(table, 2.0, 2)["logistic_regression"]
    baselines = baselines.assign(
        morphology=baselines["logistic_regression"], random_features=better
    )
    found = summary(table, baselines=baselines)
    scores = {name: found["baselines"][name]["all"]["auroc"]["value"] for name in baselines
              if name in ("morphology", "random_features")}  # fmt: skip
    assert found["image_gain"]["reference"] == max(scores, key=scores.get) == "random_features"
    gain = found["image_gain"]["all"]["auroc"]
    assert gain["value"] == pytest.approx(found["auroc"]["value"] - scores["random_features"])
    assert found["gain"]["reference"] == "logistic_regression"
    assert summary(table, baselines=beside(table, 1.0, 1))["image_gain"] is None


def test_the_best_epochs_gap_is_what_it_adds_to_the_folds_mean():
    found = summary(predictions(2.0, 0))
    mean = np.mean([fold["balanced_accuracy"] for fold in found["folds"]])
    assert found["best_epoch_gap"] == pytest.approx(0.9 - mean)


def test_repeats_tell_what_the_split_alone_does():
    once, twice = predictions(2.0, 0), predictions(2.0, 0, repeats=3)
    assert summary(once)["split_std"] is None
    each = [
        score_fold(rows["label"], rows["probability"])["auroc"]
        for _, rows in twice.groupby(twice["fold"] // FOLDS)
    ]
    assert summary(twice)["split_std"]["auroc"] == pytest.approx(np.std(each, ddof=1))
    assert summary(twice)["split_std"]["specificity_at_95"] > 0


def test_folds_have_intervals_of_their_own_patients():
    table = predictions(2.0, 0)
    for fold in summary(table)["folds"]:
        scores = pool(table[table["fold"] == fold["fold"]], FOLDS)
        for name in ("balanced_accuracy", "auroc"):
            limits = {"low": fold[f"{name}_low"], "high": fold[f"{name}_high"]}
            assert scores[name] == {"value": fold[name]} | limits


@pytest.mark.parametrize("name", RESAMPLED)
def test_no_interval_where_no_resample_differs(name):
    table = predictions(2.0, 0).assign(probability=LABELS * 0.8 + 0.1)
    score = pool(table, FOLDS)[name]
    assert score["value"] in (1.0, pytest.approx(0.01))
    assert np.isnan([score["low"], score["high"]]).all()


@pytest.mark.parametrize(
    ("name", "tumoral"), [*((name, 34) for name in RESAMPLED), ("specificity_at_95", 113)]
)
def test_bootstrap_intervals_cover_what_they_estimate(name, tumoral):
    """Beside 50 reactive patients: the hard stratum, everybody; from the value on very many."""
    random = np.random.default_rng(0)

    def draw(tumoral, reactive):
        labels = np.repeat([1, 0], [tumoral, reactive])
        logit = random.normal(2 * labels - 1)
        return pd.DataFrame(
            {
                "patient": np.arange(len(labels)),
                "fold": 0,
                "label": labels,
                "probability": 1 / (1 + np.exp(-logit)),
            }
        )

    big = draw(136_000, 200_000)
    truth = score_fold(big["label"], big["probability"])[name]
    covered = []
    for _ in range(200):
        score = pool(draw(tumoral, 50), 1, [name])[name]
        covered.append(score["low"] <= truth <= score["high"])
    assert 0.90 <= np.mean(covered) <= 0.99
