import itertools

import numpy as np
import pytest
from scipy.stats import norm, rankdata
from scipy.stats import t as student
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from lymphoml.evaluation.intervals import bootstrap_interval
from lymphoml.evaluation.paired import (
    PAIR_SCORES,
    best_of_n_bias,
    compare,
    draw_patients,
    holm,
    paired_differences,
    permutation_test,
    resample,
    score_pairs,
    smallest_detectable,
)
from tests.evaluation.simulated import simulate

ORACLES = {
    "balanced_accuracy": lambda labels, model: balanced_accuracy_score(labels, model > 0.5),
    "auroc": roc_auc_score,
}


def repeated(seed=0, sizes=(23, 10), repeats=3, decimals=1):
    """Labels in mixed order and two models of several repeats; one decimal gives many ties."""
    random = np.random.default_rng(seed)
    labels, models = simulate(random, sizes, [2.0, 1.5] * repeats)
    order = random.permutation(labels.size)
    models = np.round(models[:, order], decimals)
    return labels[order], models[::2], models[1::2]


@pytest.mark.parametrize("score", PAIR_SCORES)
def test_a_difference_is_that_of_scikit_learns_scores_averaged_over_repeats(score):
    labels, one, other = repeated()
    scores = [np.mean([ORACLES[score](labels, repeat) for repeat in m]) for m in (one, other)]
    assert score_pairs(labels == 1, one)[score].mean() == pytest.approx(scores[0], abs=1e-12)
    difference = paired_differences(labels, one, other, resamples=200)[score]
    assert difference.value == pytest.approx(scores[0] - scores[1], abs=1e-12)
    assert difference.low < difference.value < difference.high


@pytest.mark.parametrize("score", PAIR_SCORES)
def test_a_resample_scores_patients_as_often_as_they_were_drawn(score):
    labels, model, _ = repeated()
    positive = labels == 1
    draws = draw_patients(23, 10, 20, seed=1)
    counts = np.zeros((20, labels.size), dtype=int)
    counts[:, positive], counts[:, ~positive] = draws
    expected = [
        np.mean([ORACLES[score](labels[drawn], repeat[drawn]) for repeat in model])
        for drawn in (np.repeat(np.arange(labels.size), row) for row in counts)
    ]
    scores = resample(score_pairs(positive, model)[score], draws)
    assert scores == pytest.approx(np.array(expected), abs=1e-12)


@pytest.mark.parametrize(
    ("score", "permutations"), [("balanced_accuracy", 9_999), ("auroc", 9_999), ("auroc", 25_000)]
)
def test_the_permutation_test_counts_swaps(score, permutations):
    """All 128 ways to swap seven patients' predictions, scored by scikit-learn."""
    labels, one, other = repeated(2, sizes=(4, 3), repeats=2, decimals=2)
    first, second = one, other
    if score == "auroc":
        first, second = rankdata(one, axis=1), rankdata(other, axis=1)
    differences = []
    for swaps in itertools.product([False, True], repeat=7):
        swapped = np.where(swaps, second, first), np.where(swaps, first, second)
        scores = [[ORACLES[score](labels, row) for row in model] for model in swapped]
        differences.append(np.mean(scores[0]) - np.mean(scores[1]))
    expected = np.mean(np.abs(differences) >= abs(differences[0]) - 1e-12)
    p = permutation_test(score, labels == 1, one, other, permutations)
    assert p == pytest.approx(expected, abs=0.02)


def test_without_a_class_there_is_no_difference_and_of_one_patient_no_interval():
    models = np.array([[0.9, 0.2, 0.8]]), np.array([[0.3, 0.2, 0.8]])
    for difference in paired_differences([1, 1, 1], *models).values():
        assert np.isnan(difference).all()
    difference = paired_differences([1, 0, 1], *models)["balanced_accuracy"]
    assert difference.value == 0.25
    assert np.isnan([difference.low, difference.high]).all()


def test_the_percentile_interval_is_expanded_for_few_patients():
    """Of normal replicates it is Student's interval with the unbiased standard deviation."""
    replicates = norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    wide = student.ppf(0.975, 9) * (10 / 9) ** 0.5
    assert bootstrap_interval(replicates, 10) == pytest.approx((-wide, wide), abs=1e-3)
    assert bootstrap_interval(replicates, 10**6) == pytest.approx((-1.96, 1.96), abs=1e-3)


def test_standard_errors_are_those_of_independent_patients():
    """For balanced accuracy the variance is known: of d = hit - hit, class by class."""
    labels, models = simulate(np.random.default_rng(5), (113, 50), [2.0, 2.0])
    right = (models > 0.5) == labels
    d = right[0].astype(float) - right[1]
    variance = d[:113].var() / 113 + d[113:].var() / 50
    difference = paired_differences(labels, *models, resamples=20_000)["balanced_accuracy"]
    assert difference.standard_error == pytest.approx(variance**0.5 / 2, rel=0.02)


def test_holm_by_hand():
    """Sorted 0.01 0.02 0.03 0.04 times 4 3 2 1, then never falling."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.6]) == pytest.approx([1, 1])
    expected = [np.nan, 0.04, np.nan, 0.04]  # an undefined difference is no test
    assert holm([np.nan, 0.02, np.nan, 0.04]) == pytest.approx(expected, nan_ok=True)


def test_larger_families_get_more_permutations():
    labels, models = simulate(np.random.default_rng(2), (60, 40), [6.0, 0.5])
    table = compare(labels, {"a": models[:1]}, models[1:], resamples=100, unseen=500)
    assert table["p_holm"].max() < 0.05  # 9,999 permutations give 1,002 tests no less than 0.1
    few = compare(labels, {"a": models[:1]}, models[1:], resamples=100, unseen=9)
    assert few["p"].min() == pytest.approx(1e-4)


@pytest.mark.parametrize("comparisons", [1, 20])
def test_the_smallest_detectable_difference_has_a_power_of_80_percent(comparisons):
    shift = smallest_detectable(0.03, comparisons) / 0.03
    limit = norm.ppf(1 - 0.025 / comparisons)
    assert norm.sf(limit - shift) == pytest.approx(0.8, abs=1e-4)
    assert np.isnan(smallest_detectable(0.0))
    assert np.isnan(smallest_detectable(np.nan))


def test_each_resample_chooses_and_the_patients_left_out_score():
    """BBC-CV of Tsamardinos et al. 2018, in a loop with scikit-learn; then with a reference."""
    labels, models = simulate(np.random.default_rng(1), (14, 9), [0.5, 1.5, 1.5, 0.5])
    candidates, reference = models[:3], models[3]
    scores, gains = [], []
    for counts in np.hstack(draw_patients(14, 9, 60, seed=5)).astype(int):
        drawn, rest = np.repeat(np.arange(23), counts), counts == 0
        chosen_by = np.array([roc_auc_score(labels[drawn], model[drawn]) for model in candidates])
        best = candidates[chosen_by > chosen_by.max() - 1e-9]
        if len(set(labels[rest])) == 2:
            scores.append(np.mean([roc_auc_score(labels[rest], model[rest]) for model in best]))
            gains.append(scores[-1] - roc_auc_score(labels[rest], reference[rest]))
    given = (labels, dict(enumerate(candidates)), 60, 5)
    alone = best_of_n_bias(*given)["auroc"]
    overall = [roc_auc_score(labels, model) for model in candidates]
    assert (alone.name, alone.score) == (np.argmax(overall), pytest.approx(max(overall)))
    assert alone.optimism == alone.score - alone.expected
    expected = [np.mean(scores), *np.quantile(scores, [0.025, 0.975])]
    assert alone[2:5] == pytest.approx(expected, abs=1e-12)
    paired = best_of_n_bias(*given, reference=reference[None])["auroc"]
    expected = [np.mean(gains), *np.quantile(gains, [0.025, 0.975])]
    assert paired.gain == pytest.approx(expected, abs=1e-12)
    assert paired._replace(gain=None) == alone  # the reference changes nothing else


def test_too_few_patients_leave_the_correction_undefined():
    models = {"a": np.array([[0.9, 0.2, 0.8]]), "b": np.array([[0.3, 0.2, 0.8]])}
    one = best_of_n_bias([1, 0, 1], models, reference=models["b"])["balanced_accuracy"]
    assert (one.name, one.score) == ("a", 1)
    assert np.isnan([one.expected, one.low, one.high, one.optimism, *one.gain]).all()
    assert np.isnan(best_of_n_bias([1, 1, 1], models)["auroc"].score)
