from fractions import Fraction
from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import binomtest

from lymphoml.evaluation.rule_out import (
    average_rank,
    average_size,
    below_rank,
    confident_rank,
    confident_size,
    held_out,
    sample_rank,
    sensitivity_bound,
    threshold,
    worst_average,
)


def test_average_rank_is_exact_where_floats_are_not():
    assert [average_rank(n, 0.95) for n in (0, 18, 19, 38, 39, 113)] == [0, 0, 1, 1, 2, 5]
    assert average_rank(9, 0.9) == 1  # (1 - 0.9) * 10 is 0.9999999999999998
    assert average_rank(99, 0.99) == 1


@pytest.mark.parametrize("sensitivity", [0.8, 0.9, 0.95, 0.99])
def test_confident_rank_is_the_largest_that_binomial_sums_allow(sensitivity):
    for n in (1, 20, 58, 59, 92, 93, 113, 299):
        rank, total, fewest = 0, 0.0, 1 - sensitivity
        for misses in range(n + 1):
            total += comb(n, misses) * fewest**misses * sensitivity ** (n - misses)
            if total > 0.05:
                break
            rank = misses + 1
        assert confident_rank(n, sensitivity) == rank


def test_the_rank_of_a_sample_keeps_the_share_of_that_sample():
    numbers = np.arange(1, 500)
    for sensitivity in (0.5, 0.9, 0.95, 0.99):
        ranks = [sample_rank(n, sensitivity) for n in numbers.tolist()]
        assert sample_rank(numbers, sensitivity).tolist() == ranks
        miss = 1 - Fraction(str(sensitivity))
        for n, rank in zip(numbers.tolist(), ranks, strict=True):
            assert Fraction(rank - 1, n) <= miss < Fraction(rank, n)


def test_113_tumoral_patients_allow_one_miss_with_confidence():
    assert confident_rank(113, 0.95) - 1 == 1


@pytest.mark.parametrize("sensitivity", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_the_sizes_are_the_smallest_that_do(sensitivity):
    for rank, size in ((average_rank, average_size), (confident_rank, confident_size)):
        assert rank(size(sensitivity), sensitivity) == 1
        assert rank(size(sensitivity) - 1, sensitivity) == 0
    assert (average_size(0.95), confident_size(0.95)) == (19, 59)


@pytest.mark.parametrize(("rank", "n"), [(1, 59), (2, 113), (5, 113), (20, 20)])
def test_the_bound_is_clopper_pearsons_for_the_patients_below(rank, n):
    exact = binomtest(n - (rank - 1), n, alternative="greater").proportion_ci(0.95, "exact")
    assert sensitivity_bound(rank, n) == pytest.approx(exact.low)
    assert sensitivity_bound(0, n) == 1


@pytest.mark.parametrize("n", [19, 59, 113])
def test_both_guarantees_hold_over_cohorts(n):
    """Of uniform probabilities the share missed below a threshold is the threshold itself."""
    random = np.random.default_rng(n)
    cohorts = random.random((8000, n))
    average = [1 - threshold(cohort, average_rank(n, 0.95)) for cohort in cohorts]
    assert np.mean(average) == pytest.approx(1 - average_rank(n, 0.95) / (n + 1), abs=0.001)
    assert np.mean(average) >= 0.95 - 0.001
    rank = average_rank(n, 0.95)
    assert np.mean(np.array(average) >= sensitivity_bound(rank, n)) == pytest.approx(0.95, abs=0.01)
    if confident_rank(n, 0.95):
        sure = [1 - threshold(cohort, confident_rank(n, 0.95)) for cohort in cohorts]
        assert np.mean(np.array(sure) >= 0.95) >= 0.95 - 0.005
        # One rank more would break the promise.
        bold = np.sort(cohorts, axis=1)[:, confident_rank(n, 0.95)]
        assert np.mean(1 - bold >= 0.95) < 0.95


def test_the_threshold_is_the_kth_smallest_and_none_at_rank_0():
    assert threshold([0.4, 0.1, 0.3, 0.2], 2) == 0.2
    assert threshold([0.4, 0.1], 0) is None


def test_held_out_averages_repeats():
    table = pd.DataFrame(
        {
            "patient": ["b", "a", "b", "a"],
            "fold": [0, 1, 3, 2],
            "label": [1, 0, 1, 0],
            "probability": [0.2, 0.5, 0.4, 0.7],
        }
    )
    patients = held_out(table)
    assert patients.index.tolist() == ["a", "b"]
    assert patients["label"].tolist() == [0, 1]
    assert patients["probability"].tolist() == pytest.approx([0.6, 0.3])


def test_outranked_counted_by_hand():
    predictions = pd.DataFrame(
        {
            "patient": ["a", "b", "c", "d"],
            "fold": [0, 0, 1, 1],
            "label": [1, 1, 1, 0],
            "probability": [0.2, 0.6, 0.4, 0.0],
        }
    )
    new = pd.DataFrame({0: [0.1, 0.3, 0.6], 1: [0.5, 0.3, 0.4]}, index=["x", "y", "z"])
    # x: c alone is no higher; y: a; z: all three, two of them equal. d is reactive.
    assert below_rank(predictions, new).to_dict() == {"x": 1, "y": 1, "z": 3}


def test_outranked_of_repeats_compares_means_over_the_models_that_held_out():
    predictions = pd.DataFrame(
        {
            "patient": ["a", "b", "a", "b"],
            "fold": [0, 1, 3, 2],
            "label": 1,
            "probability": [0.2, 0.5, 0.4, 0.9],
        }
    )
    new = pd.DataFrame({0: [0.1], 1: [0.9], 2: [0.4], 3: [0.48]}, index=["x"])
    # a, 0.3, against models 0 and 3, 0.29; b, 0.7, against models 1 and 2, 0.65.
    assert below_rank(predictions, new)["x"] == 0
    new[3] = 0.52
    assert below_rank(predictions, new)["x"] == 1


def test_models_that_agree_make_outranked_the_threshold():
    random = np.random.default_rng(0)
    predictions = pd.DataFrame(
        {
            "patient": [f"P{i}" for i in range(113)],
            "fold": np.arange(113) % 5,
            "label": 1,
            "probability": random.random(113),
        }
    )
    said = random.random(500)
    new = pd.DataFrame(dict.fromkeys(range(5), said))
    spared = below_rank(predictions, new) < 5
    assert (spared == (said < threshold(predictions["probability"], 5))).all()


def test_worst_average_is_barbers_bound():
    expected = 1 - 10 / 114 - min(2 * 0.8 / (113 / 5 + 1), (1 - 5 / 113) / 6)
    assert worst_average(5, 113, 5) == pytest.approx(expected)
    assert 0.84 < worst_average(5, 113, 5) < 0.85
    assert worst_average(1, 2, 2) >= 0


def simulated_folds(random, folds=5, tumoral=113, reactive=50, new=1000, shift=1.0):
    """Out-of-fold predictions of linear discriminants whose level differs by fold, and new ones.

    Returns the predictions and, for new tumoral and new reactive patients, each fold's.
    """
    centre = np.array([2.4, 0.0])
    label = np.repeat([1, 0], [tumoral, reactive])
    x = random.normal(size=(len(label), 2)) + label[:, None] * centre
    fold = np.concatenate([random.permutation(n) % folds for n in (tumoral, reactive)])
    others = random.normal(size=(new, 2)) + centre, random.normal(size=(new, 2))
    probability, said = np.empty(len(label)), [pd.DataFrame(), pd.DataFrame()]
    for k in range(folds):
        one, zero = (x[(fold != k) & (label == y)] for y in (1, 0))
        within = (np.cov(one.T) + np.cov(zero.T)) / 2
        weight = np.linalg.solve(within, one.mean(0) - zero.mean(0))
        level = -weight @ (one.mean(0) + zero.mean(0)) / 2 + random.normal() * shift
        probability[fold == k] = expit(x[fold == k] @ weight + level)
        for table, inputs in zip(said, others, strict=True):
            table[k] = expit(inputs @ weight + level)
    patients = [f"P{i}" for i in range(len(label))]
    table = {"patient": patients, "fold": fold, "label": label, "probability": probability}
    return pd.DataFrame(table), *said


def test_model_by_model_keeps_the_level_and_spares_more_than_the_mean_or_a_vote():
    random = np.random.default_rng(0)
    rows = []
    for _ in range(60):
        predictions, tumoral, reactive = simulated_folds(random)
        limit = threshold(predictions["probability"][predictions["label"] == 1], 5)
        for said in (tumoral, reactive):
            rows.append(
                (
                    (below_rank(predictions, said) < 5).mean(),
                    (said.mean(axis=1) < limit).mean(),
                    (said < limit).all(axis=1).mean(),
                )
            )
    missed, spared = np.mean(rows[::2], axis=0), np.mean(rows[1::2], axis=0)
    counted, mean, vote = range(3)
    assert missed[counted] == pytest.approx(5 / 114, abs=0.006)
    assert missed[vote] < missed[mean] < missed[counted]
    assert spared[counted] > spared[mean] + 0.04 > spared[vote] + 0.14
