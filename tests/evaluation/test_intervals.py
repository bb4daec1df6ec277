import itertools

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm
from sklearn.metrics import roc_auc_score

from lymphoml.evaluation.intervals import auroc_interval, delong, mover_balanced_accuracy, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_limits(successes, n, low, high):
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3."""
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (7, 10), (41, 42), (42, 42)])
def test_wilson_equals_scipy(successes, n, level):
    reference = binomtest(successes, n).proportion_ci(level, method="wilson")
    assert wilson(successes, n, level) == pytest.approx((reference.low, reference.high))


def test_wilson_interpolates_fractional_successes():
    below, between, above = wilson(7, 10), wilson(7.5, 10), wilson(8, 10)
    assert below.low < between.low < above.low
    assert below.high < between.high < above.high


def test_mover_gives_the_published_limits():
    """Newcombe 1998, Statistics in Medicine 17:873, table II, method 10: 56/70 - 48/80.

    A difference p1 - p2 is 2 x balanced accuracy - 1 for sensitivity p1 and specificity 1 - p2.
    """
    interval = mover_balanced_accuracy(56, 70, 80 - 48, 80)
    assert [2 * limit - 1 for limit in interval] == pytest.approx([0.0524, 0.3339], abs=5e-5)


def test_mover_stays_within_bounds_when_all_or_none_are_right():
    assert mover_balanced_accuracy(23, 23, 10, 10).high == 1
    assert mover_balanced_accuracy(23, 23, 10, 10).low < 0.9
    assert mover_balanced_accuracy(0, 23, 0, 10).low == 0


def test_an_absent_class_leaves_every_interval_undefined():
    assert np.isnan(wilson(0, 0)).all()
    assert np.isnan(mover_balanced_accuracy(0, 0, 5, 10)).all()
    assert np.isnan(delong([1, 1, 1], [0.1, 0.2, 0.3])).all()
    assert np.isnan(auroc_interval(np.nan, np.nan, 3, 0)).all()


def exact_coverage(sizes, rates):
    """The share of tables whose interval holds the truth, by summing over every possible table."""
    truth = sum(rates) / 2
    weights = [binom.pmf(range(n + 1), n, rate) for n, rate in zip(sizes, rates, strict=True)]
    coverage = 0.0
    for right in itertools.product(*(range(n + 1) for n in sizes)):
        weight = weights[0][right[0]] * weights[1][right[1]]
        if weight > 1e-7:  # the rest adds up to nothing
            low, high = mover_balanced_accuracy(right[0], sizes[0], right[1], sizes[1])
            coverage += weight * (low <= truth <= high)
    return coverage


@pytest.mark.parametrize("sizes", [(23, 10), (34, 50)])
def test_mover_covers_on_a_fold_and_on_the_hard_stratum(sizes):
    """About 95 % over rates; counts are discrete, so that at one rate near 1 it can fall to 91 %.

    The percentile bootstrap covers 62 % of the time on such a fold at 0.97 and 0.97.
    """
    rates = [(0.97, 0.97), (0.93, 0.9), (0.85, 0.85), (0.9, 0.75), (0.7, 0.6), (0.5, 0.5)]
    coverage = [exact_coverage(sizes, pair) for pair in rates]
    assert min(coverage) > 0.91
    assert 0.935 < np.mean(coverage) < 0.965


def direct_delong(labels, scores):
    """DeLong's equations over all pairs, as printed."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    kernel = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    return kernel.mean(), (
        kernel.mean(axis=1).var(ddof=1) / len(positive)
        + kernel.mean(axis=0).var(ddof=1) / len(negative)
    )


@pytest.mark.parametrize("decimals", [1, 12])  # 1: nearly every score is tied
@pytest.mark.parametrize("sizes", [(2, 2), (23, 10), (113, 50)])
def test_delong_by_midranks_equals_all_pairs(sizes, decimals):
    rng = np.random.default_rng(0)
    for _ in range(5):
        labels = rng.permutation(np.repeat([1, 0], sizes))
        scores = np.round(rng.normal(size=sum(sizes)) + labels, decimals)
        value, variance = delong(labels, scores)
        assert (value, variance) == pytest.approx(direct_delong(labels, scores))
        assert value == pytest.approx(roc_auc_score(labels, scores))


@pytest.mark.parametrize("truth", [0.8, 0.95, 0.99])
def test_auroc_interval_covers_on_the_hard_stratum(truth):
    """Binormal scores; at 0.99 about one draw in 25 separates the classes without error."""
    m, n, draws = 34, 50, 400
    rng = np.random.default_rng(1)
    labels = np.repeat([1, 0], [m, n])
    shift = np.sqrt(2) * norm.ppf(truth)
    covered = 0
    for scores in rng.normal(size=(draws, m + n)) + shift * labels:
        low, high = auroc_interval(*delong(labels, scores), m, n)
        covered += low <= truth <= high
    assert 0.92 < covered / draws < 0.985


def test_auroc_interval_mirrors_when_the_scores_are_negated():
    rng = np.random.default_rng(2)
    labels = np.repeat([1, 0], [20, 30])
    scores = rng.normal(size=50) + labels
    low, high = auroc_interval(*delong(labels, scores), 20, 30)
    mirrored = auroc_interval(*delong(labels, -scores), 20, 30)
    assert mirrored == pytest.approx((1 - high, 1 - low))


def test_perfect_separation_leaves_room_below_1():
    value, variance = delong([1] * 30 + [0] * 20, range(50, 0, -1))
    assert (value, variance) == (1, 0)
    assert auroc_interval(value, variance, 30, 20) == wilson(20, 20)


def test_one_score_for_all_or_one_patient_in_a_class_still_has_an_interval():
    value, variance = delong([1] * 30 + [0] * 20, np.full(50, 0.7))
    assert (value, variance) == (0.5, 0)
    assert auroc_interval(value, variance, 30, 20) == wilson(10, 20)
    value, variance = delong([1, 0, 0, 0, 0], [0.4, 0.1, 0.2, 0.3, 0.5])
    assert value == 0.75
    assert np.isnan(variance)
    assert auroc_interval(value, variance, 1, 4) == wilson(0.75, 1)
