import itertools

import numpy as np
import pytest
from scipy.stats import norm, rankdata
from scipy.stats import t as student
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from lymphoml.evaluation.intervals import bootstrap_interval
from lymphoml.evaluation.paired import (
    PAIR_SCORES,
    draw_patients,
    paired_differences,
    permutation_test,
    resample,
    score_pairs,
)
from tests.evaluation.simulated import simulate, truth

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


def test_each_resample_has_as_many_of_a_class_as_the_cohort():
    draws = draw_patients(23, 10, 500, seed=0)
    assert set(draws.positives.sum(axis=1)) == {23}
    assert set(draws.negatives.sum(axis=1)) == {10}
    left_out = (draws.positives == 0).mean()
    assert left_out == pytest.approx((1 - 1 / 23) ** 23, abs=0.01)  # with replacement


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


def test_exchanging_the_models_reverses_the_sign_and_keeps_p():
    labels, one, other = repeated()
    forth = paired_differences(labels, one, other)
    back = paired_differences(labels, other, one)
    for score in PAIR_SCORES:
        value, low, high, *rest = forth[score]
        assert back[score] == pytest.approx((-value, -high, -low, *rest))


def test_a_model_does_not_differ_from_itself():
    labels, one, _ = repeated()
    for difference in paired_differences(labels, one, one).values():
        assert difference == (0, 0, 0, 1, 0)


def test_repeating_the_same_predictions_adds_nothing():
    labels, one, other = repeated(repeats=1)
    once = paired_differences(labels, one, other)
    thrice = paired_differences(labels, np.repeat(one, 3, axis=0), np.repeat(other, 3, axis=0))
    flat = paired_differences(labels, one[0], other[0])
    for score in PAIR_SCORES:
        assert thrice[score] == pytest.approx(once[score])
        assert flat[score] == once[score]


def test_more_extreme_probabilities_change_nothing_about_the_auroc():
    labels, one, other = repeated(decimals=12)
    plain = paired_differences(labels, one, other)["auroc"]
    extreme = paired_differences(labels, one**5, other)["auroc"]
    assert extreme == pytest.approx(plain, abs=1e-12)


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


@pytest.mark.parametrize(
    ("sizes", "skills"),
    [
        ((34, 50), (2.6, 2.0)),
        pytest.param((34, 50), (2.0, 2.0), marks=pytest.mark.slow),
        pytest.param((113, 50), (2.0, 2.0), marks=pytest.mark.slow),
        pytest.param((113, 50), (2.6, 2.0), marks=pytest.mark.slow),
    ],
)
def test_paired_intervals_cover(sizes, skills):
    random = np.random.default_rng(4)
    true = {score: values[0] - values[1] for score, values in truth(skills).items()}
    covered = dict.fromkeys(PAIR_SCORES, 0)
    for seed in range(300):
        labels, models = simulate(random, sizes, skills)
        if seed % 10 == 0:  # drawing takes longest
            draws = draw_patients(*sizes, 400, seed)
        one, other = (score_pairs(labels == 1, model[None]) for model in models)
        for score in PAIR_SCORES:
            low, high = bootstrap_interval(resample(one[score] - other[score], draws), min(sizes))
            covered[score] += low <= true[score] <= high
    assert all(0.92 < hits / 300 < 0.98 for hits in covered.values()), covered


def test_standard_errors_are_those_of_independent_patients():
    """For balanced accuracy the variance is known: of d = hit - hit, class by class."""
    labels, models = simulate(np.random.default_rng(5), (113, 50), [2.0, 2.0])
    right = (models > 0.5) == labels
    d = right[0].astype(float) - right[1]
    variance = d[:113].var() / 113 + d[113:].var() / 50
    difference = paired_differences(labels, *models, resamples=20_000)["balanced_accuracy"]
    assert difference.standard_error == pytest.approx(variance**0.5 / 2, rel=0.02)
