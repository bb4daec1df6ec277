import numpy as np
import pytest
from scipy.stats import binom
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import normal_power

from lymphoml.evaluation.paired import PAIR_SCORES as SCORES
from lymphoml.evaluation.paired import paired_differences, standard_errors
from lymphoml.evaluation.paired import permutation_test as swap_test
from lymphoml.evaluation.selection import compare, holm, smallest_detectable
from tests.evaluation.simulated import simulate, truth


def test_each_model_but_the_reference_has_a_row_a_score():
    labels, models = simulate(np.random.default_rng(0), (40, 20), [2.0, 2.0, 1.0])
    named = dict(zip("abc", models[:, None], strict=True))
    others = {name: named[name] for name in "ac"}
    table = compare(labels, others, named["b"], resamples=300, seed=3)
    table = table.set_index(["model", "score"])
    assert list(table.index) == [(name, score) for name in "ac" for score in SCORES]
    for name in "ac":
        pair = (labels, named[name], named["b"])
        errors = standard_errors(*pair, 300, 3)
        for score, difference in paired_differences(*pair, 300, 3).items():
            row = table.loc[(name, score)]
            assert tuple(row[list(difference._fields)]) == difference
            assert row["detectable"] == smallest_detectable(errors[score])
    assert table["p_holm"].tolist() == holm(table["p"]).tolist()


def test_holm_by_hand():
    """Sorted 0.01 0.02 0.03 0.04 times 4 3 2 1, then never falling."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.6]) == pytest.approx([1, 1])


def test_holm_equals_statsmodels():
    p = np.random.default_rng(0).beta(0.3, 3, 40).round(3)  # some tied
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)


def test_a_difference_that_is_undefined_is_no_test():
    assert holm([np.nan, 0.02, np.nan, 0.04]) == pytest.approx(
        [np.nan, 0.04, np.nan, 0.04], nan_ok=True
    )
    assert np.isnan(holm([np.nan])).all()


def test_models_that_were_tried_and_are_not_here_count_as_those_of_p_1():
    labels, models = simulate(np.random.default_rng(1), (40, 20), [3.0, 2.5, 1.0])
    others = dict(zip("ab", models[:2, None], strict=True))
    table = compare(labels, others, models[2:], resamples=300, unseen=5)
    shown = np.append(table["p"], np.ones(5 * 2))
    assert table["p_holm"].tolist() == holm(shown)[:4].tolist()
    assert table["p_holm"].min() > compare(labels, others, models[2:], 300)["p_holm"].min()


def test_a_clear_difference_stays_one_however_many_were_tried():
    labels, models = simulate(np.random.default_rng(2), (60, 40), [6.0, 0.5])
    table = compare(labels, {"a": models[:1]}, models[1:], resamples=100, unseen=500)
    assert table["p_holm"].max() < 0.05  # 9,999 swaps give 1,002 tests no less than 0.1
    few = compare(labels, {"a": models[:1]}, models[1:], resamples=100, unseen=9)
    assert few["p"].min() == pytest.approx(1e-4)  # 9,999 as ever: small families keep their numbers


@pytest.mark.parametrize("comparisons", [1, 20])
def test_the_smallest_detectable_difference_is_found_four_times_in_five(comparisons):
    difference = smallest_detectable(0.03, comparisons)
    power = normal_power(difference / 0.03, nobs=1, alpha=0.05 / comparisons, sigma=1)
    assert power == pytest.approx(0.8, abs=1e-4)


def test_models_that_never_differ_have_no_detectable_difference():
    assert np.isnan(smallest_detectable(0.0))
    assert np.isnan(smallest_detectable(np.nan))


def test_the_promised_power_is_what_the_swap_test_has():
    """The true difference of these models is 0.083: 2.80 of its standard errors."""
    random = np.random.default_rng(1)
    found, detectable = 0, []
    for _ in range(200):
        labels, models = simulate(random, (113, 50), [2.87, 2.0])
        p = swap_test("balanced_accuracy", labels == 1, *models[:, None], 499)
        found += p < 0.05
        right = ((models > 0.5) == labels).astype(float)
        d = right[0] - right[1]
        detectable.append(
            smallest_detectable((d[:113].var() / 113 + d[113:].var() / 50) ** 0.5 / 2)
        )
    true = np.subtract(*truth([2.87, 2.0])["balanced_accuracy"])
    assert np.mean(detectable) == pytest.approx(true, abs=0.004)
    assert 0.72 < found / 200 < 0.88


def false_winners(simulations, permutations, seed):
    """How often one of ten equal models differs from an eleventh: with Holm's correction, without.

    Three in ten of a logit's variance are the model's own, as between two seeds of a network.
    """
    random = np.random.default_rng(seed)
    corrected = plain = 0
    for simulation in range(simulations):
        labels, models = simulate(random, (113, 50), [2.2] * 11)
        p = [
            swap_test(score, labels == 1, model[None], models[:1], permutations, simulation)
            for model in models[1:]
            for score in SCORES
        ]
        corrected += holm(p).min() < 0.05
        plain += min(p) < 0.05
    return corrected / simulations, plain / simulations


def test_ten_equal_models_seldom_give_a_false_winner():
    corrected, plain = false_winners(200, permutations=799, seed=2)
    assert corrected * 200 <= binom.ppf(0.99, 200, 0.05)
    assert plain > 0.25  # what Holm is for


@pytest.mark.slow
def test_ten_equal_models_give_a_false_winner_in_at_most_6_percent():
    corrected, _ = false_winners(2000, permutations=1999, seed=3)
    assert corrected <= 0.06
