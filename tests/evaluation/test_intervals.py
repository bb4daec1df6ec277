import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binom, binomtest
from sklearn.metrics import roc_auc_score

from lymphoml.evaluation.intervals import auroc_interval, balanced_accuracy_interval, delong, wilson


@pytest.mark.parametrize(("successes", "n"), [(1, 1), (7, 10), (0, 42), (81, 263)])
def test_wilson_equals_scipy(successes, n):
    reference = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson(successes, n) == pytest.approx((reference.low, reference.high))


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0533, 0.3377),
        ((9, 10), (3, 10), 0.1821, 0.8370),
        ((6, 7), (2, 7), 0.0544, 0.8478),
        ((5, 56), (0, 29), -0.0313, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.7225, 1.0),
        ((10, 10), (0, 10), 0.6777, 1.0),
    ],
)
def test_the_score_interval_gives_the_published_limits(first, second, low, high):
    """Newcombe 1998, Statistics in Medicine 17:873, table II, method 5.

    A difference p1 - p2 is 2 x balanced accuracy - 1 for sensitivity p1 and specificity 1 - p2.
    """
    interval = balanced_accuracy_interval(*first, second[1] - second[0], second[1])
    assert [2 * limit - 1 for limit in interval] == pytest.approx([low, high], abs=5.1e-5)


def test_an_absent_class_leaves_every_interval_undefined():
    assert np.isnan(wilson(0, 0)).all()
    assert np.isnan(balanced_accuracy_interval(0, 0, 5, 10)).all()
    assert np.isnan(delong([1, 1, 1], [0.1, 0.2, 0.3])).all()
    assert np.isnan(auroc_interval(np.nan, np.nan, 3, 0)).all()


@pytest.mark.parametrize("sizes", [(23, 10), pytest.param((113, 50), marks=pytest.mark.slow)])
def test_the_score_interval_covers_wherever_the_truth_lies(sizes):
    """A fold, all patients: at each true sensitivity and specificity, summed over every table.

    Square-and-add of Wilson's limits falls to 0.90 here (docs/method.md).
    """
    rates = np.array([0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97])
    counts = [np.arange(n + 1) for n in sizes]
    low, high = np.array(
        [[balanced_accuracy_interval(hit, sizes[0], right, sizes[1]) for right in counts[1]]
         for hit in counts[0]]
    ).transpose(2, 0, 1)  # fmt: skip
    hits, rights = (binom.pmf(counts[i], n, rates[:, None]) for i, n in enumerate(sizes))
    truth = (rates[:, None, None, None] + rates[:, None, None]) / 2
    holds = (low <= truth + 1e-9) & (truth - 1e-9 <= high)
    coverage = np.einsum("ih,ijhr,jr->ij", hits, holds, rights)
    assert 0.945 < coverage.mean() < 0.96
    assert coverage.min() > 0.935
    assert coverage.max() < 0.975


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


def test_the_auroc_interval_is_symmetric_on_the_logit_scale():
    half = 1.959964 * 0.04 / (0.8 * 0.2)  # the delta method
    expected = expit(logit(0.8) - half), expit(logit(0.8) + half)
    assert auroc_interval(0.8, 0.04**2, 34, 50) == pytest.approx(expected)


def test_separation_one_score_for_all_and_one_patient_in_a_class_have_intervals():
    for scores, expected in ((range(50, 0, -1), 1), (np.full(50, 0.7), 0.5)):
        value, variance = delong([1] * 30 + [0] * 20, scores)
        assert (value, variance) == (expected, 0)
        assert auroc_interval(value, variance, 30, 20) == wilson(20 * expected, 20)
    value, variance = delong([1, 0, 0, 0, 0], [0.4, 0.1, 0.2, 0.3, 0.5])
    assert value == 0.75
    assert np.isnan(variance)
    assert auroc_interval(value, variance, 1, 4) == wilson(0.75, 1)
