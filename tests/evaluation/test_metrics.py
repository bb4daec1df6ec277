import math

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import t as student
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    matthews_corrcoef,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from lymphoml.evaluation import pooled
from lymphoml.evaluation.intervals import bootstrap_interval, proportion
from lymphoml.evaluation.metrics import (
    SCORES,
    best_threshold,
    score_fold,
    sensitive_threshold,
    thresholds,
)
from lymphoml.evaluation.pooled import RESAMPLED, pool


def specificity_at_95(labels, probabilities, weights):
    false_alarm, found, _ = roc_curve(
        labels, probabilities, sample_weight=weights, drop_intermediate=False
    )
    return 1 - false_alarm[found >= 0.95 - 1e-9].min()


ORACLES = {
    "specificity_at_95": specificity_at_95,
    "average_precision": lambda y, p, w: average_precision_score(y, p, sample_weight=w),
    "f1": lambda y, p, w: f1_score(y, p > 0.5, sample_weight=w, zero_division=0.0),
    "matthews": lambda y, p, w: matthews_corrcoef(y, p > 0.5, sample_weight=w),
    "brier": lambda y, p, w: brier_score_loss(y, p, sample_weight=w),
}


@pytest.mark.parametrize("decimals", [1, 9])  # few make many ties
@pytest.mark.parametrize("tumoral", [1, 5, 19, 20, 39, 40, 113])  # 5 % are a whole number or not
def test_scores_equal_scikit_learn(tumoral, decimals):
    random = np.random.default_rng(tumoral)
    for _ in range(5):
        labels = random.permutation(np.repeat([1, 0], [tumoral, 50]))
        probabilities = random.beta(2 + labels, 2).round(decimals)
        called = probabilities > 0.5
        expected = {
            "n": len(labels), "n_positive": labels.sum(),
            "balanced_accuracy": balanced_accuracy_score(labels, called),
            "accuracy": accuracy_score(labels, called),
            "sensitivity": recall_score(labels, called),
            "specificity": recall_score(labels, called, pos_label=0),
            "auroc": roc_auc_score(labels, probabilities),
        }  # fmt: skip
        expected |= {name: oracle(labels, probabilities, None) for name, oracle in ORACLES.items()}
        scores = score_fold(labels, probabilities)
        assert scores == pytest.approx(expected, rel=1e-12, abs=1e-12)
        assert set(scores) == {"n", "n_positive", *SCORES}


def test_the_sensitive_threshold_calls_ties():
    tumoral = np.arange(1, 41) / 100  # 2 of 40 may be missed
    labels = np.repeat([1, 0], [40, 4])
    reactive = [0.02, 0.029, 0.03, 0.5]
    probabilities = np.concatenate([tumoral, reactive])
    assert sensitive_threshold(labels, probabilities) == 0.03
    assert score_fold(labels, probabilities)["specificity_at_95"] == 0.5
    few = np.concatenate([tumoral[:19], reactive])
    assert sensitive_threshold(labels[21:], few) == 0.01  # the lowest, as 1 of 19 is above 5 %
    assert sensitive_threshold(labels[40:], np.array(reactive)) == 0


def test_a_fold_with_one_class_keeps_the_scores_that_need_no_other():
    scores = score_fold([1, 1, 1, 1], [0.9, 0.8, 0.2, 0.6])
    assert scores["sensitivity"] == 0.75
    assert scores["brier"] == pytest.approx(0.2125)
    undefined = {key for key, value in scores.items() if math.isnan(value)}
    assert undefined == {"specificity", "balanced_accuracy", "auroc", "average_precision", "f1",
                         "matthews", "specificity_at_95"}  # fmt: skip


def test_a_nan_probability_leaves_no_score():
    scores = score_fold([1, 0, 1, 0], [0.9, 0.1, math.nan, 0.6])
    assert scores.pop("n") == 4
    assert scores.pop("n_positive") == 2
    assert all(math.isnan(value) for value in scores.values())


def rows(labels, probabilities):
    patients = np.arange(len(labels))
    return pd.DataFrame(
        {"patient": patients, "fold": 0, "label": labels, "probability": probabilities}
    )


def test_the_best_threshold_separates_the_classes_nearest_to_a_half():
    assert best_threshold(rows([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.9])) == 0.25
    # 0.15 and 0.35 both get 3 of 4 right.
    assert best_threshold(rows([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4])) == pytest.approx(0.35)
    assert best_threshold(rows([1, 1], [0.1, 0.2])) == 0.5


def predictions(n=4000, seed=0):
    """Four folds whose probabilities are all shifted the same way, of balanced accuracy 0.84."""
    random = np.random.default_rng(seed)
    label = np.arange(n) % 2
    probability = 1 / (1 + np.exp(-random.normal(2 * label - 1 + 1.5, 1.0)))
    fold = random.permutation(n) % 4
    return pd.DataFrame({"fold": fold, "label": label, "probability": probability})


def test_a_nested_threshold_corrects_a_shift():
    found = thresholds(predictions(), 4)
    assert found["fixed"]["balanced_accuracy"]["value"] == pytest.approx(0.65, abs=0.03)
    assert found["nested"]["balanced_accuracy"]["value"] == pytest.approx(0.841, abs=0.02)
    assert found["nested"]["thresholds"] == pytest.approx([0.82] * 4, abs=0.05)
    assert found["best_on_fold"]["invalid"] is True


def test_repeats_have_thresholds_of_their_own_and_add_no_patient():
    once = predictions(n=400)
    second = once.assign(fold=once["fold"] + 4, probability=once["probability"] ** 4)
    both = thresholds(pd.concat([once, second], ignore_index=True), 4)
    first, second = (
        thresholds(table, 4) for table in (once, second.assign(fold=second["fold"] - 4))
    )
    for name in ("nested", "nested_95"):
        expected = first[name]["thresholds"] + second[name]["thresholds"]
        assert both[name]["thresholds"] == expected
    for name in ("sensitivity", "specificity"):
        mean = np.mean([found["nested_95"][name]["value"] for found in (first, second)])
        assert both["nested_95"][name] == pytest.approx(proportion(mean * 200, 200)._asdict())
    scores = [found["nested"]["balanced_accuracy"] for found in (both, first)]
    widths = [score["high"] - score["low"] for score in scores]
    assert widths[0] == pytest.approx(widths[1], rel=0.01)


def test_nested_95_is_the_sensitive_threshold_of_the_other_folds():
    table = predictions(n=400).round({"probability": 1})  # many tie with the threshold
    found = thresholds(table, 4)["nested_95"]
    hits, rejections = [], []
    for fold in range(4):
        held_out = table["fold"] == fold
        limit = sensitive_threshold(*table[~held_out][["label", "probability"]].to_numpy().T)
        assert found["thresholds"][fold] == limit
        called = table[held_out]["probability"] >= limit
        hits.append(called[table["label"] == 1].sum())
        rejections.append((~called)[table["label"] == 0].sum())
    for name, right in (("sensitivity", sum(hits)), ("specificity", sum(rejections))):
        assert found[name] == pytest.approx(proportion(right, 200)._asdict())
    # Without a tumoral patient in another fold.
    table = predictions(n=40).assign(fold=lambda rows: 1 - rows["label"])
    found = thresholds(table, 2)["nested_95"]
    assert found["thresholds"][0] == 0
    assert found["sensitivity"]["value"] == 1


def draw(tumoral, reactive, decimals=9):
    """Few decimals make many ties."""
    labels = np.repeat([1, 0], [tumoral, reactive])
    logits = np.random.default_rng(0).normal(2 * labels - 1)
    return labels, expit(logits).round(decimals)


@pytest.mark.parametrize("name", RESAMPLED)
@pytest.mark.parametrize("decimals", [1, 9])
def test_each_row_of_weights_scores_as_scikit_learn_does(name, decimals):
    labels, probabilities = draw(26, 14, decimals)
    weights = pooled.draw_weights(labels)[:30]
    scores = RESAMPLED[name](labels, probabilities, weights)
    expected = [ORACLES[name](labels, probabilities, row) for row in weights]
    np.testing.assert_allclose(scores, expected, atol=1e-12)


@pytest.mark.parametrize("constant", [0.2, 0.8])
def test_all_called_alike(constant):
    labels, _ = draw(26, 14)
    same, weights = np.full(len(labels), constant), np.ones((1, len(labels)))
    assert pooled.matthews(labels, same, weights) == 0
    expected = f1_score(labels, same > 0.5, zero_division=0.0)
    assert pooled.f1(labels, same, weights) == pytest.approx(expected)


@pytest.mark.parametrize("name", RESAMPLED)
def test_no_interval_where_no_resample_differs(name):
    labels, _ = draw(30, 20)
    score = pool(rows(labels, labels * 0.8 + 0.1), 1)[name]
    assert score["value"] in (1.0, pytest.approx(0.01))
    assert np.isnan([score["low"], score["high"]]).all()


@pytest.mark.parametrize("name", RESAMPLED)
def test_intervals_are_those_of_the_resamples(name):
    labels, probabilities = draw(34, 50)
    score = pool(rows(labels, probabilities), 1, [name])[name]
    replicates = RESAMPLED[name](labels, probabilities, pooled.draw_weights(labels))
    expected = bootstrap_interval(replicates, 34)
    if name == "average_precision":  # Student's, on the logit scale
        half = student.ppf(0.975, 33) * replicates.std(ddof=1)
        half /= score["value"] * (1 - score["value"])
        expected = expit(logit(score["value"]) + np.array([-half, half]))
    assert (score["low"], score["high"]) == pytest.approx(tuple(expected))
