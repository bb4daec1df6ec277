import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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

from lymphoml.evaluation.intervals import auroc_interval, balanced_accuracy_interval, delong
from lymphoml.evaluation.metrics import score_fold, sensitive_threshold
from lymphoml.evaluation.summary import summarise


def specificity_at(labels, probabilities, sensitivity=0.95):
    """The highest of the working points of scikit-learn's curve that keep the sensitivity."""
    false_alarm, found, _ = roc_curve(labels, probabilities, drop_intermediate=False)
    return 1 - false_alarm[found >= sensitivity - 1e-9].min()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.floats(0, 1, width=16)), min_size=2, max_size=60
    ).filter(lambda rows: len({label for label, _ in rows}) == 2)
)
def test_scores_equal_scikit_learn(rows):
    labels, probabilities = map(np.array, zip(*rows, strict=True))
    called = probabilities > 0.5
    assert score_fold(labels, probabilities) == pytest.approx(
        {
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
        },
        rel=1e-12,
        abs=1e-12,
    )


@pytest.mark.parametrize("decimals", [1, 2, 9])  # few make many ties
@pytest.mark.parametrize("tumoral", [5, 19, 20, 39, 40, 113])  # 5 % are a whole number or not
def test_specificity_at_95_equals_scikit_learns_curve(tumoral, decimals):
    random = np.random.default_rng(tumoral)
    for _ in range(20):
        labels = random.permutation(np.repeat([1, 0], [tumoral, 50]))
        probabilities = random.beta(2 + labels, 2).round(decimals)
        ours = score_fold(labels, probabilities)["specificity_at_95"]
        assert ours == pytest.approx(specificity_at(labels, probabilities))


def test_the_sensitive_threshold_calls_whoever_ties_with_it():
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


def test_one_probability_that_is_no_number_leaves_no_score():
    scores = score_fold([1, 0, 1, 0], [0.9, 0.1, math.nan, 0.6])
    assert scores.pop("n") == 4
    assert scores.pop("n_positive") == 2
    assert all(math.isnan(value) for value in scores.values())


def cohort(n=60, folds=5, repeats=1, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(n) % 3 > 0).astype(int)
    return pd.concat(
        pd.DataFrame(
            {
                "patient": [f"P{i}" for i in range(n)],
                "fold": repeat * folds + rng.permutation(np.arange(n) % folds),
                "label": label,
                "probability": 1 / (1 + np.exp(-rng.normal(size=n) - 2 * label + 1)),
            }
        )
        for repeat in range(repeats)
    )


def histories(predictions, scores=(0.5, 0.8, 0.8, 0.7)):
    history = pd.DataFrame({"epoch": range(len(scores)), "val/balanced_accuracy": scores})
    return {int(fold): history for fold in predictions["fold"].unique()}


def test_top_level_scores_pool_the_out_of_fold_predictions():
    predictions = cohort()
    labels, called = predictions["label"], predictions["probability"] > 0.5
    summary = summarise(predictions, histories(predictions), folds_per_repeat=5)
    pooled = balanced_accuracy_score(labels, called)
    mean_of_folds = np.mean([fold["balanced_accuracy"] for fold in summary["folds"]])
    assert summary["n_patients"] == 60
    assert summary["balanced_accuracy"]["value"] == pytest.approx(pooled)
    assert pooled != pytest.approx(mean_of_folds)
    low, high = balanced_accuracy_interval(
        (labels * called).sum(), labels.sum(), ((1 - labels) * ~called).sum(), (1 - labels).sum()
    )
    assert summary["balanced_accuracy"] == pytest.approx(
        {"value": pooled, "low": low, "high": high}
    )
    value, variance = delong(labels, predictions["probability"])
    low, high = auroc_interval(value, variance, labels.sum(), (1 - labels).sum())
    assert summary["auroc"] == pytest.approx({"value": value, "low": low, "high": high})


def test_each_fold_has_the_scores_of_its_own_patients():
    predictions = cohort()
    summary = summarise(predictions, histories(predictions), folds_per_repeat=5)
    assert [fold["fold"] for fold in summary["folds"]] == [0, 1, 2, 3, 4]
    for fold in summary["folds"]:
        rows = predictions[predictions["fold"] == fold["fold"]]
        assert score_fold(rows["label"], rows["probability"]).items() <= fold.items()


def test_row_order_changes_nothing():
    predictions = cohort(repeats=2)
    shuffled = predictions.sample(frac=1, random_state=1)
    summary = summarise(predictions, histories(predictions), 5)
    again = summarise(shuffled, histories(shuffled), 5)
    for ours, theirs in zip(again["folds"], summary["folds"], strict=True):
        assert ours == pytest.approx(theirs)
    for score in ("balanced_accuracy", "auroc", "best_epoch_balanced_accuracy"):
        assert again[score] == pytest.approx(summary[score])


def test_the_best_epoch_is_the_first_of_equals_and_told_apart_from_the_score():
    predictions = cohort()
    curves = histories(predictions)
    curves[2] = pd.DataFrame(
        {"epoch": [0, 1, 2], "val/balanced_accuracy": [math.nan, 0.6, 0.9]}, index=[7, 7, 7]
    )
    summary = summarise(predictions, curves, folds_per_repeat=5)
    assert [fold["best_epoch"] for fold in summary["folds"]] == [1, 1, 2, 1, 1]
    best = [fold["best_epoch_balanced_accuracy"] for fold in summary["folds"]]
    assert best == [0.8, 0.8, 0.9, 0.8, 0.8]
    assert summary["best_epoch_balanced_accuracy"] == pytest.approx(
        {"mean": 0.82, "std": np.std(best, ddof=1)}
    )


def test_repeats_average_the_score_and_leave_the_width_of_one():
    once, twice = cohort(repeats=1), cohort(repeats=2)
    second = twice[twice["fold"] >= 5]
    summary = summarise(twice, histories(twice), folds_per_repeat=5)
    parts = [summarise(part, histories(part), 5) for part in (once, second)]
    assert summary["n_patients"] == 60
    assert len(summary["folds"]) == 10
    for score in ("balanced_accuracy", "auroc"):
        values = [part[score]["value"] for part in parts]
        widths = [part[score]["high"] - part[score]["low"] for part in parts]
        assert summary[score]["value"] == pytest.approx(np.mean(values))
        width = summary[score]["high"] - summary[score]["low"]
        assert min(widths) * 0.99 <= width <= max(widths) * 1.01


def test_identical_repeats_change_nothing():
    once = cohort(repeats=1)
    twice = pd.concat([once, once.assign(fold=once["fold"] + 5)])
    single, double = (summarise(rows, histories(rows), 5) for rows in (once, twice))
    for score in ("balanced_accuracy", "auroc"):
        assert double[score] == pytest.approx(single[score])


def test_undefined_scores_become_null_and_the_rest_plain_numbers():
    predictions = cohort(n=10)
    predictions["fold"] = predictions["label"]  # one class a fold
    curves = histories(predictions)
    curves[1] = curves[1].assign(**{"val/balanced_accuracy": math.nan})
    summary = summarise(predictions, curves, folds_per_repeat=2)
    reactive, tumoral = json.loads(json.dumps(summary, allow_nan=False))["folds"]
    assert reactive["balanced_accuracy"] is None
    assert reactive["best_epoch"] == 1
    assert tumoral["auroc"] is None
    assert tumoral["best_epoch"] is None
    assert tumoral["best_epoch_balanced_accuracy"] is None
    assert summary["balanced_accuracy"]["low"] is not None

    def leaves(node):
        if not isinstance(node, dict | list):
            return {type(node)}
        return set().union(*map(leaves, node.values() if isinstance(node, dict) else node))

    assert leaves(summary) == {bool, int, float, type(None)}
