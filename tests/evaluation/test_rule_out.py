from fractions import Fraction
from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import betabinom, binom, binomtest, norm

from lymphoml.evaluation.cross_conformal import count_below, ruled_out, tumoral_scores
from lymphoml.evaluation.intervals import wilson
from lymphoml.evaluation.metrics import thresholds
from lymphoml.evaluation.pooled import pool
from lymphoml.evaluation.rule_out import (
    assess,
    average_rank,
    average_size,
    chance_of_missing,
    confident_rank,
    confident_size,
    held_out,
    negative_predictive_value,
    sample_rank,
    sensitivity_bound,
    specificity_difference,
    worst_average,
)
from lymphoml.evaluation.summary import over_repeats


def test_average_rank_is_exact_where_floats_are_not():
    assert [average_rank(n, 0.95) for n in (0, 18, 19, 38, 39, 113)] == [0, 0, 1, 1, 2, 5]
    assert average_rank(9, 0.9) == 1  # (1 - 0.9) * 10 is 0.9999999999999998
    assert average_rank(99, 0.99) == 1


@pytest.mark.parametrize("sensitivity", [0.8, 0.95, 0.99])
def test_confident_rank_is_the_largest_that_binomial_sums_allow(sensitivity):
    for n in (1, 20, 58, 59, 92, 93, 113, 299):
        rank, total, miss = 0, 0.0, 1 - sensitivity
        for misses in range(n + 1):
            total += comb(n, misses) * miss**misses * sensitivity ** (n - misses)
            if total > 0.05:
                break
            rank = misses + 1
        assert confident_rank(n, sensitivity) == rank


def test_the_rank_of_a_sample_keeps_the_sensitivity_on_that_sample():
    numbers = np.arange(1, 500)
    for sensitivity in (0.5, 0.9, 0.95, 0.99):
        ranks = [sample_rank(n, sensitivity) for n in numbers.tolist()]
        assert sample_rank(numbers, sensitivity).tolist() == ranks
        miss = 1 - Fraction(str(sensitivity))
        for n, rank in zip(numbers.tolist(), ranks, strict=True):
            assert Fraction(rank - 1, n) <= miss < Fraction(rank, n)


@pytest.mark.parametrize("sensitivity", [0.5, 0.9, 0.95, 0.99])
def test_the_sizes_are_the_smallest_that_do(sensitivity):
    for rank, size in ((average_rank, average_size), (confident_rank, confident_size)):
        assert rank(size(sensitivity), sensitivity) == 1
        assert rank(size(sensitivity) - 1, sensitivity) == 0


@pytest.mark.parametrize(("rank", "n"), [(1, 59), (2, 113), (5, 113), (20, 20)])
def test_the_bound_is_clopper_pearsons_for_the_patients_below(rank, n):
    exact = binomtest(n - (rank - 1), n, alternative="greater").proportion_ci(0.95, "exact")
    assert sensitivity_bound(rank, n) == pytest.approx(exact.low)
    assert sensitivity_bound(0, n) == 1


def out_of_fold(patients, folds, labels, probabilities):
    return pd.DataFrame(
        {"patient": patients, "fold": folds, "label": labels, "probability": probabilities}
    )


def test_repeats_are_averaged_over_the_models_that_held_out():
    patients = held_out(out_of_fold([*"baba"], [0, 1, 3, 2], [1, 0, 1, 0], [0.2, 0.5, 0.4, 0.7]))
    assert patients.index.tolist() == ["a", "b"]
    assert patients["label"].tolist() == [0, 1]
    assert patients["probability"].tolist() == pytest.approx([0.6, 0.3])
    predictions = out_of_fold([*"abab"], [0, 1, 3, 2], 1, [0.2, 0.5, 0.4, 0.9])
    new = pd.DataFrame({0: [0.1], 1: [0.9], 2: [0.4], 3: [0.48]}, index=["x"])
    # a, 0.3, against models 0 and 3, 0.29; b, 0.7, against models 1 and 2, 0.65.
    assert count_below(tumoral_scores(predictions), new)["x"] == 0
    new[3] = 0.52
    assert count_below(tumoral_scores(predictions), new)["x"] == 1


def test_ranks_counted_by_hand():
    predictions = out_of_fold([*"abcd"], [0, 0, 1, 1], [1, 1, 1, 0], [0.2, 0.6, 0.4, 0.0])
    new = pd.DataFrame({0: [0.1, 0.3, 0.6], 1: [0.5, 0.3, 0.4]}, index=["x", "y", "z"])
    # x: c alone is no higher; y: a; z: all three, two of them equal. d is reactive.
    assert count_below(tumoral_scores(predictions), new).to_dict() == {"x": 1, "y": 1, "z": 3}


def test_worst_average_is_barbers_bound():
    expected = 1 - 10 / 114 - min(2 * 0.8 / (113 / 5 + 1), (1 - 5 / 113) / 6)
    assert worst_average(5, 113, 5) == pytest.approx(expected)
    assert worst_average(1, 2, 2) >= 0


@pytest.mark.parametrize("tumoral", [2, 3, 100, 1000])
@pytest.mark.parametrize(("guarantee", "rank"), [("average", 5), ("confidence", 2)])
def test_a_rule_that_keeps_its_promise_is_seldom_said_not_to(guarantee, rank, tumoral):
    missed = np.arange(tumoral + 1)
    chances = [chance_of_missing(each, tumoral, guarantee, 0.95, rank, 113) for each in missed]
    kept = {"average": betabinom(tumoral, rank, 114 - rank), "confidence": binom(tumoral, 0.05)}
    alarms = kept[guarantee].pmf(missed)[np.array(chances) <= 0.025].sum()
    assert alarms <= 0.025
    assert chances[0] == 1
    assert chances[-1] < 0.025  # all of them missed


def patients(tumoral, reactive):
    labels = np.repeat([1, 0], [len(tumoral), len(reactive)])
    ids = [f"P{i}" for i in range(len(labels))]
    return pd.DataFrame({"label": labels, "probability": [*tumoral, *reactive]}, index=ids)


def drawn(random, skill=1.5):
    return patients(expit(random.normal(skill, 1, 113)), expit(random.normal(0, 1, 50)))


def test_outcome_counted_by_hand():
    outcome = assess(patients([0.9, 0.2, 0.3, 0.8], [0.1, 0.25, 0.3, 0.5]), 2)
    low, high = wilson(2, 4)
    assert outcome == {
        "rank": 2, "threshold": 0.3, "average_sensitivity": pytest.approx(1 - 2 / 5),
        "missed": 1,  # 0.2; a patient at the threshold is tested
        "ruled_out": 2,  # 0.1 and 0.25
        "sensitivity_bound": sensitivity_bound(2, 4), "negative_predictive_value": None,
        "specificity": {"value": 0.5, "low": low, "high": high},
    }  # fmt: skip
    tied = assess(patients([0.3] * 4, [0.3, 0.2]), 3)
    assert (tied["missed"], tied["ruled_out"]) == (0, 1)


def test_rank_0_rules_nobody_out():
    outcome = assess(patients([0.0, 0.5], [0.0, 0.1]), 0, prevalence=0.3)
    expected = {"threshold": None, "missed": 0, "ruled_out": 0, "sensitivity_bound": 1,
                "negative_predictive_value": None}  # fmt: skip
    assert expected.items() <= outcome.items()
    assert outcome["specificity"]["value"] == 0


def test_negative_predictive_value_counted_by_hand():
    # Of 1000 patients 300 are tumoral: 300 x 5/114 missed; 700 x 0.6 ruled out.
    missed, ruled_out = 300 * 5 / 114, 700 * 0.6
    value, low, high = negative_predictive_value(5, 113, 30, 50, prevalence=0.3)
    assert value == pytest.approx(ruled_out / (ruled_out + missed))
    assert low < value < high < 1
    assert np.isnan(negative_predictive_value(5, 113, 0, 50, 0.3)).all()


def test_the_intervals_of_a_threshold_cover():
    random = np.random.default_rng(2)
    covered = []
    for _ in range(200):
        outcome = assess(drawn(random), 2, prevalence=0.3)
        limit = logit(outcome["threshold"])
        missed, specificity = norm.cdf(limit - 1.5), norm.cdf(limit)
        npv = 0.7 * specificity / (0.7 * specificity + 0.3 * missed)
        truths = {"specificity": specificity, "negative_predictive_value": npv}
        covered.append(
            [outcome[k]["low"] <= true <= outcome[k]["high"] for k, true in truths.items()]
        )
    assert all(0.9 < share < 0.995 for share in np.mean(covered, axis=0))


def test_a_difference_of_specificities_is_paired():
    random = np.random.default_rng(0)
    table = drawn(random)
    other = table.assign(probability=drawn(random, skill=3)["probability"])
    value, low, high = specificity_difference(table, other, 5)
    values = [assess(one, 5)["specificity"]["value"] for one in (table, other)]
    assert value == pytest.approx(values[0] - values[1])
    assert low < value < high < 0
    assert specificity_difference(other, table, 5).value == -value
    # Of two models that agree it has no width, since patients are drawn for both.
    assert specificity_difference(table, table**2, 5) == (0, 0, 0)


def test_nobody_outside_the_training_range_is_ruled_out():
    """In no rate: those of a threshold, of scores, of thresholds from other folds, of repeats."""
    predictions = pd.DataFrame({
        "patient": ["T1", "T2", "T3", "R1", "R2", "R3"] * 2, "fold": [0, 1, 0, 1, 0, 1] * 2,
        "label": [1, 1, 1, 0, 0, 0] * 2, "probability": [0.2, 0.6, 0.9, 0.1, 0.3, 0.5] * 2,
    })  # fmt: skip
    predictions.loc[6:, "fold"] += 2
    within = predictions.assign(outside_range="")
    assert held_out(within).equals(held_out(predictions))
    # T1 sets no threshold any more, so R3 is below it; R1 is tested, in one repeat as in both.
    outside = within.copy()
    outside.loc[[0, 3], "outside_range"] = "age below 20"
    once = held_out(outside)
    assert once["probability"].to_dict() == {
        "R1": 1, "R2": 0.3, "R3": 0.5, "T1": 1, "T2": 0.6, "T3": 0.9
    }  # fmt: skip
    found = assess(once, 1)
    assert (found["threshold"], found["missed"], found["ruled_out"]) == (0.6, 0, 2)
    first = [rows[rows["fold"] < 2] for rows in (within, outside)]
    assert [pool(rows, 2, ["specificity_at_95"])["specificity_at_95"]["value"] for rows in first] \
        == pytest.approx([1 / 3, 2 / 3])  # fmt: skip
    nested = [thresholds(rows, 2)["nested_95"] for rows in first]
    assert [each["thresholds"] for each in nested] == [[0.6, 0.2], [0.6, 0.9]]
    assert nested[1]["specificity"]["value"] == pytest.approx(2 / 3)  # R1 called, R3 not
    averaged = over_repeats(outside)
    assert averaged["outside_range"].tolist() == ["age below 20", "", "", "age below 20", "", ""]
    new = pd.DataFrame({fold: [0.1, np.inf] for fold in range(4)}, index=["in", "out"])
    scores = tumoral_scores(within)
    assert count_below(scores, new).tolist() == [0, 3]
    one_fold = pd.DataFrame({fold: [0.1, np.inf if fold else 0.1] for fold in range(4)})
    assert ruled_out(scores, one_fold, rank=4).tolist() == [True, False]
    everybody = outside.assign(outside_range="age below 20")
    assert assess(held_out(everybody), 1)["ruled_out"] == 0
    assert pool(everybody, 2, ["specificity_at_95"])["specificity_at_95"]["value"] == 0
