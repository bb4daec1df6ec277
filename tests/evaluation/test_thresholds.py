import numpy as np
import pandas as pd
import pytest

from lymphoml.evaluation.intervals import proportion
from lymphoml.evaluation.metrics import sensitive_threshold
from lymphoml.evaluation.thresholds import best_threshold, thresholds


def rows(labels, probabilities, fold=0):
    return pd.DataFrame({"fold": fold, "label": labels, "probability": probabilities})


def test_the_best_threshold_parts_the_classes():
    assert best_threshold(rows([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.9])) == 0.25


def test_of_equal_thresholds_the_one_nearest_a_half_is_taken():
    # 0.15 and 0.35 both get 3 of 4 in each class right.
    labels, probabilities = [0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4]
    assert best_threshold(rows(labels, probabilities)) == pytest.approx(0.35)
    assert best_threshold(rows([1, 1], [0.1, 0.2])) == 0.5


def predictions(n=4000, seed=0):
    """Four folds whose probabilities are all shifted the same way, of balanced accuracy 0.84."""
    random = np.random.default_rng(seed)
    label = np.arange(n) % 2
    logit = random.normal(2 * label - 1 + 1.5, 1.0)
    return pd.DataFrame(
        {"fold": random.permutation(n) % 4, "label": label, "probability": 1 / (1 + np.exp(-logit))}
    )


def test_a_nested_threshold_mends_a_shift_that_the_fixed_one_suffers_from():
    found = thresholds(predictions(), 4)
    assert found["fixed"]["balanced_accuracy"]["value"] == pytest.approx(0.65, abs=0.03)
    assert found["nested"]["balanced_accuracy"]["value"] == pytest.approx(0.841, abs=0.02)
    assert found["nested"]["thresholds"] == pytest.approx([0.82] * 4, abs=0.05)
    assert found["best_on_fold"]["invalid"] is True


def test_a_folds_own_labels_do_not_choose_its_nested_threshold():
    table = predictions(n=200)
    before = thresholds(table, 4)["nested"]["thresholds"]
    own = table["fold"] == 2
    table.loc[own, "label"] = 1 - table["label"][own]
    after = thresholds(table, 4)["nested"]["thresholds"]
    assert after[2] == before[2]
    assert after != before


def test_the_best_threshold_of_each_fold_flatters_noise():
    random = np.random.default_rng(0)
    chance = {"nested": [], "best_on_fold": []}
    for _ in range(30):
        table = pd.DataFrame({"fold": np.arange(163) % 5, "label": np.arange(163) % 3 > 0})
        table["label"] = table["label"].astype(int)
        table["probability"] = random.random(163)
        found = thresholds(table, 5)
        for name, scores in chance.items():
            scores.append(found[name]["balanced_accuracy"]["value"])
    assert np.mean(chance["best_on_fold"]) > 0.57
    assert np.mean(chance["nested"]) == pytest.approx(0.5, abs=0.03)


def test_repeats_are_thresholded_apart_and_counted_once():
    once = predictions(n=400)
    shifted = once.assign(fold=once["fold"] + 4, probability=once["probability"] ** 4)
    both = thresholds(pd.concat([once, shifted], ignore_index=True), 4)
    alone = thresholds(once, 4)
    assert both["nested"]["thresholds"][:4] == alone["nested"]["thresholds"]
    widths = [
        found["nested"]["balanced_accuracy"]["high"] - found["nested"]["balanced_accuracy"]["low"]
        for found in (both, alone)
    ]
    assert widths[0] == pytest.approx(widths[1], rel=0.01)


def test_a_fold_is_ruled_out_by_a_threshold_of_the_other_folds():
    table = predictions(n=400).round({"probability": 1})  # many tie with the threshold
    found = thresholds(table, 4)["nested_95"]
    hits, spared = [], []
    for fold in range(4):
        here = table["fold"] == fold
        limit = sensitive_threshold(*table[~here][["label", "probability"]].to_numpy().T)
        assert found["thresholds"][fold] == limit
        called = table[here]["probability"] >= limit
        hits.append(called[table["label"] == 1].sum())
        spared.append((~called)[table["label"] == 0].sum())
    for name, right in (("sensitivity", sum(hits)), ("specificity", sum(spared))):
        assert found[name] == pytest.approx(proportion(right, 200)._asdict())


def test_a_folds_own_labels_do_not_choose_the_threshold_that_rules_out():
    table = predictions(n=200)
    before = thresholds(table, 4)["nested_95"]["thresholds"]
    own = table["fold"] == 2
    table.loc[own, "label"] = 1 - table["label"][own]
    after = thresholds(table, 4)["nested_95"]["thresholds"]
    assert after[2] == before[2]
    assert after != before


def test_the_sensitivity_reached_elsewhere_scatters_about_that_asked_for():
    """On the patients themselves it would be 0.95 or more each time."""
    reached = [
        thresholds(predictions(n=240, seed=seed), 4)["nested_95"]["sensitivity"]["value"]
        for seed in range(40)
    ]
    assert np.mean(reached) == pytest.approx(0.945, abs=0.01)
    assert min(reached) < 0.95 < max(reached)


def test_nobody_is_ruled_out_where_no_other_fold_has_a_tumoral_patient():
    table = predictions(n=40).assign(fold=lambda rows: 1 - rows["label"])
    found = thresholds(table, 2)["nested_95"]
    assert found["thresholds"][0] == 0
    assert found["sensitivity"]["value"] == 1


def test_ruling_out_is_a_mean_over_repeats_of_as_many_patients():
    once = predictions(n=400)
    other = once.assign(fold=once["fold"] + 4, probability=once["probability"].iloc[::-1].values)
    both = thresholds(pd.concat([once, other], ignore_index=True), 4)["nested_95"]
    each = [
        thresholds(rows, 4)["nested_95"] for rows in (once, other.assign(fold=other["fold"] - 4))
    ]
    for name in ("sensitivity", "specificity"):
        mean = np.mean([found[name]["value"] for found in each])
        assert both[name] == pytest.approx(proportion(mean * 200, 200)._asdict())
