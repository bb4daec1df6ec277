import numpy as np
import pandas as pd
import pytest

from lymphoml.evaluation.intervals import proportion
from lymphoml.evaluation.metrics import sensitive_threshold
from lymphoml.evaluation.thresholds import best_threshold, thresholds


def rows(labels, probabilities):
    return pd.DataFrame({"fold": 0, "label": labels, "probability": probabilities})


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


@pytest.mark.parametrize("name", ["nested", "nested_95"])
def test_a_folds_own_labels_do_not_choose_its_nested_threshold(name):
    table = predictions(n=200)
    before = thresholds(table, 4)[name]["thresholds"]
    own = table["fold"] == 2
    table.loc[own, "label"] = 1 - table["label"][own]
    after = thresholds(table, 4)[name]["thresholds"]
    assert after[2] == before[2]
    assert after != before


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
    widths = [
        found["nested"]["balanced_accuracy"]["high"] - found["nested"]["balanced_accuracy"]["low"]
        for found in (both, first)
    ]
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


def test_nobody_is_ruled_out_where_no_other_fold_has_a_tumoral_patient():
    table = predictions(n=40).assign(fold=lambda rows: 1 - rows["label"])
    found = thresholds(table, 2)["nested_95"]
    assert found["thresholds"][0] == 0
    assert found["sensitivity"]["value"] == 1
