import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit
from scipy.stats import binom

from lymphoml.evaluation.decision_curve import (
    THRESHOLDS,
    decision_curve,
    shift_prevalence,
    weighted_prevalence,
)
from lymphoml.evaluation.intervals import wilson

LABELS = [1, 1, 1, 0, 0]
PROBABILITIES = [0.9, 0.3, 0.2, 0.2, 0.1]


def test_net_benefit_counted_by_hand():
    curve = decision_curve(LABELS, PROBABILITIES, thresholds=[0.1, 0.2, 0.25, 0.5])
    # Tested at or above: all; 3 tumoral and 1 reactive; 2 and none; 1 and none. Of 5 patients.
    expected = [3 / 5 - 2 / 5 / 9, 3 / 5 - 1 / 5 / 4, 2 / 5, 1 / 5]
    assert curve["net_benefit"].tolist() == pytest.approx(expected)
    test_all = [3 / 5 - 2 / 5 / 9, 3 / 5 - 2 / 5 / 4, 3 / 5 - 2 / 5 / 3, 3 / 5 - 2 / 5]
    assert curve["all"].tolist() == pytest.approx(test_all)
    assert (curve["none"] == 0).all()
    assert decision_curve(LABELS, PROBABILITIES)["threshold"].tolist() == list(THRESHOLDS)


def test_another_prevalence_weights_the_classes():
    curve = decision_curve(LABELS, PROBABILITIES, prevalence=0.1, thresholds=[0.2])
    assert curve["net_benefit"][0] == pytest.approx(0.1 * 1 - 0.9 * (1 / 2) * 0.25)
    assert curve["all"][0] == pytest.approx(0.1 - 0.9 * 0.25)
    # Ten times as many reactive patients are the same cohort at another prevalence.
    more = decision_curve([1] * 3 + [0] * 20, PROBABILITIES[:3] + PROBABILITIES[3:] * 10)
    same = decision_curve(LABELS, PROBABILITIES, prevalence=3 / 23)
    np.testing.assert_allclose(more["net_benefit"], same["net_benefit"])


def test_without_needless_tests_the_upper_limit_is_wilsons():
    curve = decision_curve([1] * 30 + [0] * 20, [0.9] * 28 + [0.1] * 22, 0.2, [0.001, 0.5])
    tested, chosen = curve.iloc[0], curve.iloc[1]
    assert tested["net_benefit"] == pytest.approx(tested["all"])
    low, high = wilson(28, 30)
    below = np.hypot(0.2 * (28 / 30 - low), 0.8 * wilson(0, 20).high)
    assert chosen["low"] == pytest.approx(chosen["net_benefit"] - below)
    assert chosen["high"] == pytest.approx(0.2 * high)


@pytest.mark.parametrize(
    ("sensitivity", "wrong", "threshold"),
    [(0.99, 0.8, 0.05), pytest.param(0.88, 0.15, 0.5, marks=pytest.mark.slow)],
)
def test_the_interval_covers_also_where_nearly_every_tumoral_patient_is_found(
    sensitivity, wrong, threshold
):
    """Over every table of 40 tumoral and 20 reactive patients, no simulation."""
    m, n = 40, 20
    truth = m / 60 * sensitivity - n / 60 * wrong * threshold / (1 - threshold)
    coverage = 0.0
    for found in range(m + 1):
        for needless in range(n + 1):
            weight = binom.pmf(found, m, sensitivity) * binom.pmf(needless, n, wrong)
            if weight > 1e-5:
                above = [1] * found + [0] * (m - found) + [1] * needless + [0] * (n - needless)
                row = decision_curve([1] * m + [0] * n, above, thresholds=[threshold]).iloc[0]
                coverage += weight * (row["low"] <= truth <= row["high"])
    assert 0.93 < coverage < 0.995


def test_an_absent_class_leaves_the_model_undefined():
    curve = decision_curve([1, 1], [0.2, 0.3], thresholds=[0.1])
    assert curve[["net_benefit", "low", "high"]].isna().all(axis=None)
    assert curve["all"][0] == 1


def test_a_shifted_probability_follows_bayes_rule():
    likelihoods = np.array([0.1, 0.6]), np.array([0.5, 0.2])  # of tumoral, of reactive patients

    def posterior(prevalence):
        tumoral, reactive = prevalence * likelihoods[0], (1 - prevalence) * likelihoods[1]
        return tumoral / (tumoral + reactive)

    np.testing.assert_allclose(shift_prevalence(posterior(0.7), 0.7, 0.1), posterior(0.1))


@pytest.mark.parametrize("weight", [0.3, 1.0, 4.0])
def test_a_weighted_loss_fits_the_weighted_prevalence(weight):
    def loss(x):
        return -weight * 0.7 * log_expit(x) - 0.3 * log_expit(-x)

    fitted = expit(minimize_scalar(loss, bounds=(-5, 5), method="bounded").x)
    assert weighted_prevalence(0.7, weight) == pytest.approx(fitted, abs=1e-3)
    assert weighted_prevalence(0.7, 3 / 7) == pytest.approx(0.5)  # balanced
