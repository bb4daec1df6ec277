import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit, logit
from scipy.stats import chi2
from sklearn.calibration import calibration_curve

from lymphoml.evaluation.calibration import (
    CLIP,
    calibration_intercept,
    calibration_slope,
    reliability_bins,
)
from lymphoml.evaluation.intervals import wilson


def cohort(n=163, slope=0.7, shift=0.3, seed=0):
    """Labels that follow `shift + slope logit(probability)`."""
    random = np.random.default_rng(seed)
    logits = random.normal(0.5, 1.5, n)
    return (random.random(n) < expit(shift + slope * logits)).astype(int), expit(logits)


def test_slope_and_its_limits_are_those_of_statsmodels():
    labels, probabilities = cohort()
    x = logit(probabilities)
    fit = sm.Logit(labels, sm.add_constant(x)).fit(disp=0)
    value, low, high = calibration_slope(labels, probabilities)
    assert value == pytest.approx(fit.params[1], abs=1e-6)
    for limit in (low, high):  # where the likelihood-ratio test turns significant
        held = sm.GLM(labels, np.ones(len(x)), sm.families.Binomial(), offset=limit * x).fit()
        assert 2 * (fit.llf - held.llf) == pytest.approx(chi2.ppf(0.95, 1), abs=1e-4)
    assert low < value < high


def test_intercept_and_its_limits_are_those_of_statsmodels():
    labels, probabilities = cohort()
    x, ones = logit(probabilities), np.ones(len(probabilities))
    fit = sm.GLM(labels, ones, sm.families.Binomial(), offset=x).fit()
    value, low, high = calibration_intercept(labels, probabilities)
    assert value == pytest.approx(fit.params[0], abs=1e-6)
    assert (low, high) == pytest.approx(fit.conf_int()[0], abs=0.02)  # Wald's, nearly the same
    for limit in (low, high):
        right = np.where(labels == 1, expit(x + limit), 1 - expit(x + limit))
        assert 2 * (fit.llf - np.log(right).sum()) == pytest.approx(chi2.ppf(0.95, 1), abs=1e-6)


def test_intervals_of_calibrated_probabilities_cover_1_and_0():
    covered = []
    for seed in range(300):
        labels, probabilities = cohort(60, slope=1, shift=0, seed=seed)
        slope = calibration_slope(labels, probabilities)
        intercept = calibration_intercept(labels, probabilities)
        covered.append((slope.low <= 1 <= slope.high, intercept.low <= 0 <= intercept.high))
    assert (np.mean(covered, axis=0) > 0.92).all()
    assert (np.mean(covered, axis=0) < 0.98).all()


def test_separated_classes_have_an_infinite_slope_with_one_limit():
    labels, probabilities = np.repeat([0, 1], [20, 30]), np.linspace(0.3, 0.8, 50)
    value, low, high = calibration_slope(labels, probabilities)
    assert (value, high) == (np.inf, np.inf)
    held = sm.GLM(labels, np.ones(50), sm.families.Binomial(), offset=low * logit(probabilities))
    assert -2 * held.fit().llf == pytest.approx(chi2.ppf(0.95, 1), abs=1e-4)
    assert calibration_slope(1 - labels, probabilities) == pytest.approx((-np.inf, -np.inf, -low))


def test_a_border_shared_by_both_classes_still_has_no_finite_slope():
    labels, probabilities = [0, 0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.5, 0.5, 0.5, 0.8, 0.9]
    value, low, high = calibration_slope(labels * 4, probabilities * 4)
    assert (value, high) == (np.inf, np.inf)
    x, tied = logit(probabilities * 4), 12  # of whom a third is tumoral
    best = tied * (1 / 3 * np.log(1 / 3) + 2 / 3 * np.log(2 / 3))
    held = sm.GLM(labels * 4, np.ones(28), sm.families.Binomial(), offset=low * x).fit()
    assert 2 * (best - held.llf) == pytest.approx(chi2.ppf(0.95, 1), abs=1e-4)


def test_certain_probabilities_are_clipped_and_one_class_is_undefined():
    labels = np.array([0, 1, 0, 1, 1, 0])
    certain = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    clipped = certain.clip(CLIP, 1 - CLIP)
    assert calibration_slope(labels, certain) == calibration_slope(labels, clipped)
    assert np.isfinite(calibration_intercept(labels, certain)).all()
    for undefined in (
        calibration_slope([1, 1], [0.2, 0.3]),
        calibration_slope([0, 1], [0.2, 0.2]),
        calibration_intercept([0, 0], [0.2, 0.3]),
    ):
        assert np.isnan(undefined).all()


def test_bins_are_those_of_scikit_learn_with_wilsons_limits():
    labels, probabilities = cohort(160)
    bins = reliability_bins(labels, probabilities, bins=8)
    observed, predicted = calibration_curve(labels, probabilities, n_bins=8, strategy="quantile")
    np.testing.assert_allclose(bins["observed"], observed)
    np.testing.assert_allclose(bins["probability"], predicted)
    assert (bins["n"] == 20).all()
    for row in bins.itertuples():
        assert (row.low, row.high) == wilson(round(row.observed * 20), 20)


def test_calibration_error_counted_by_hand_weighs_bins_by_patients():
    # Ranks 1 to 3 are tied at 2, so that the first bin of two holds three of four.
    labels, probabilities = [0, 1, 0, 1], [0.4, 0.4, 0.4, 0.9]
    bins = reliability_bins(labels, probabilities, bins=2)
    assert bins["n"].tolist() == [3, 1]


def test_order_of_rows_changes_no_bin():
    labels, probabilities = cohort()
    probabilities = probabilities.round(1)
    order = np.random.default_rng(1).permutation(len(labels))
    one = reliability_bins(labels, probabilities)
    other = reliability_bins(labels[order], probabilities[order])
    np.testing.assert_allclose(one, other)
