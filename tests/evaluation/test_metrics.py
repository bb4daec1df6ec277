import math

import numpy as np
import pytest
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

from lymphoml.evaluation.metrics import SCORES, score_fold, sensitive_threshold


def specificity_at(labels, probabilities, sensitivity=0.95):
    """The highest specificity on scikit-learn's curve that keeps the sensitivity."""
    false_alarm, found, _ = roc_curve(labels, probabilities, drop_intermediate=False)
    return 1 - false_alarm[found >= sensitivity - 1e-9].min()


@pytest.mark.parametrize("decimals", [1, 9])  # few make many ties
@pytest.mark.parametrize("tumoral", [1, 5, 19, 20, 39, 40, 113])  # 5 % are a whole number or not
def test_scores_equal_scikit_learn(tumoral, decimals):
    random = np.random.default_rng(tumoral)
    for _ in range(5):
        labels = random.permutation(np.repeat([1, 0], [tumoral, 50]))
        probabilities = random.beta(2 + labels, 2).round(decimals)
        called = probabilities > 0.5
        expected = {
            "n": len(labels),
            "n_positive": labels.sum(),
            "balanced_accuracy": balanced_accuracy_score(labels, called),
            "accuracy": accuracy_score(labels, called),
            "sensitivity": recall_score(labels, called),
            "specificity": recall_score(labels, called, pos_label=0),
            "auroc": roc_auc_score(labels, probabilities),
            "specificity_at_95": specificity_at(labels, probabilities),
            "average_precision": average_precision_score(labels, probabilities),
            "f1": f1_score(labels, called, zero_division=0.0),
            "matthews": matthews_corrcoef(labels, called),
            "brier": brier_score_loss(labels, probabilities),
        }
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
