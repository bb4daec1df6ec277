import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit, logit
from scipy.stats import binom, chi2
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from lymphoml.evaluation.calibration import (
    CLIP,
    METHODS,
    THRESHOLDS,
    calibration_intercept,
    calibration_slope,
    decision_curve,
    recalibrate,
    recalibration,
    reliability_bins,
    shift_prevalence,
    weighted_prevalence,
)
from lymphoml.evaluation.intervals import wilson

DROP = chi2.ppf(0.95, 1)  # of twice the log-likelihood at the limits


def cohort(n=163, slope=0.7, shift=0.3, seed=0):
    """Labels that follow `shift + slope logit(probability)`."""
    random = np.random.default_rng(seed)
    logits = random.normal(0.5, 1.5, n)
    return (random.random(n) < expit(shift + slope * logits)).astype(int), expit(logits)


def fit(labels, offset, *x):
    """The coefficients (constant, then of x) and twice the maximal log-likelihood, by search."""
    columns = np.column_stack([np.ones(len(offset)), *x])

    def loss(b):
        z = columns @ b + offset
        return np.sum(np.logaddexp(0, z) - labels * z)

    found = minimize(loss, np.zeros(columns.shape[1]), method="BFGS", options={"gtol": 1e-8})
    return found.x, -2 * found.fun


def test_recalibration_is_a_logistic_regression_on_the_logit():
    labels, probabilities = cohort()
    x = logit(probabilities)
    (constant, factor), best = fit(labels, 0 * x, x)
    intercept, slope = recalibration(labels, probabilities)
    assert slope == calibration_slope(labels, probabilities)
    assert (intercept.value, slope.value) == pytest.approx((constant, factor), abs=1e-5)
    for limit in intercept[1:]:  # a fixed there, and b fitted
        fixed = minimize_scalar(
            lambda b, a=limit: np.logaddexp(0, a + b * x).sum() - labels @ (a + b * x)
        )
        assert best + 2 * fixed.fun == pytest.approx(DROP, abs=1e-4)
    separated = recalibration([0, 0, 1, 1], [0.1, 0.2, 0.7, 0.8])
    assert np.isnan(separated[0]).all()
    assert separated[1].value == np.inf


def test_slope_intercept_and_their_limits_are_those_of_the_likelihood():
    labels, probabilities = cohort()
    x = logit(probabilities)

    def fixed(intercept):
        return None, 2 * log_expit(np.where(labels == 1, 1, -1) * (x + intercept)).sum()

    for estimate, ((*_, expected), best), profile in (
        (calibration_slope, fit(labels, 0 * x, x), lambda slope: fit(labels, slope * x)),
        (calibration_intercept, fit(labels, x), fixed),
    ):
        value, low, high = estimate(labels, probabilities)
        assert value == pytest.approx(expected, abs=1e-5)
        assert low < value < high
        for limit in (low, high):
            assert best - profile(limit)[1] == pytest.approx(DROP, abs=1e-4)


def test_separated_classes_have_an_infinite_slope_with_one_limit():
    labels, probabilities = np.repeat([0, 1], [20, 30]), np.linspace(0.3, 0.8, 50)
    value, low, high = calibration_slope(labels, probabilities)
    assert (value, high) == (np.inf, np.inf)
    assert -fit(labels, low * logit(probabilities))[1] == pytest.approx(DROP, abs=1e-4)
    assert calibration_slope(1 - labels, probabilities) == pytest.approx((-np.inf, -np.inf, -low))
    # A border shared by both classes still allows no finite slope.
    labels = np.array([0, 0, 0, 1, 0, 1, 1] * 4)
    probabilities = np.array([0.1, 0.2, 0.5, 0.5, 0.5, 0.8, 0.9] * 4)
    value, low, high = calibration_slope(labels, probabilities)
    assert (value, high) == (np.inf, np.inf)
    best = 12 * (1 / 3 * np.log(1 / 3) + 2 / 3 * np.log(2 / 3))  # 12 tied, a third tumoral
    assert 2 * best - fit(labels, low * logit(probabilities))[1] == pytest.approx(DROP, abs=1e-4)


def test_certain_probabilities_are_clipped_and_one_class_is_undefined():
    labels = np.array([0, 1, 0, 1, 1, 0])
    certain = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    clipped = certain.clip(CLIP, 1 - CLIP)
    assert calibration_slope(labels, certain) == calibration_slope(labels, clipped)
    assert np.isfinite(calibration_intercept(labels, certain)).all()
    assert np.isnan(calibration_slope([1, 1], [0.2, 0.3])).all()
    assert np.isnan(calibration_slope([0, 1], [0.2, 0.2])).all()
    assert np.isnan(calibration_intercept([0, 0], [0.2, 0.3])).all()
    assert decision_curve([1, 1], [0.2, 0.3])[["net_benefit", "low"]].isna().all(axis=None)


def test_bins_are_those_of_scikit_learn_with_wilsons_limits():
    labels, probabilities = cohort(160)
    bins = reliability_bins(labels, probabilities, bins=8)
    observed, predicted = calibration_curve(labels, probabilities, n_bins=8, strategy="quantile")
    np.testing.assert_allclose(bins["observed"], observed)
    np.testing.assert_allclose(bins["probability"], predicted)
    assert (bins["n"] == 20).all()
    for row in bins.itertuples():
        assert (row.low, row.high) == wilson(round(row.observed * 20), 20)
    # Ranks 1 to 3 are tied at 2, so that the first bin of two holds three of four.
    assert reliability_bins([0, 1, 0, 1], [0.4, 0.9, 0.4, 0.4], bins=2)["n"].tolist() == [3, 1]


def overconfident(n=150, folds=5, repeats=2, seed=0):
    """Logits three times too large."""
    random = np.random.default_rng(seed)
    truth = random.normal(0.5, 1, n)
    label = (random.random(n) < expit(truth)).astype(int)
    parts = []
    for repeat in range(repeats):
        fold = repeat * folds + random.permutation(n) % folds
        probability = expit(3.0 * (truth + random.normal(0, 0.1, n)))
        parts.append(pd.DataFrame({"fold": fold, "label": label, "probability": probability}))
    return pd.concat(parts, ignore_index=True)


def smoothed(labels):
    m, n = (labels == 1).sum(), (labels == 0).sum()
    return np.where(labels == 1, (m + 1) / (m + 2), 1 / (n + 2))


@pytest.mark.parametrize("method", METHODS)
def test_each_fold_is_scaled_by_a_fit_to_the_others_of_its_repeat(method):
    """By scikit-learn, each patient twice: as tumoral and as reactive, weighted by the target."""
    table = overconfident()
    scaled = recalibrate(table, 5, method)
    for fold in (0, 7):
        others = table[(table["fold"] // 5 == fold // 5) & (table["fold"] != fold)]
        target = smoothed(others["label"].to_numpy())
        model = LogisticRegression(C=np.inf, fit_intercept=method == "platt", tol=1e-10)
        x = logit(others["probability"].to_numpy())
        model.fit(
            np.tile(x, 2)[:, None], np.repeat([1, 0], len(x)), np.concatenate([target, 1 - target])
        )
        rows = table["fold"] == fold
        expected = model.predict_proba(logit(table["probability"][rows]).to_numpy()[:, None])[:, 1]
        np.testing.assert_allclose(scaled["probability"][rows], expected, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_separated_and_misleading_probabilities_stay_finite_and_in_order(method):
    table = overconfident(repeats=1)
    label = table["label"].astype(float)
    for probability in (label, 1 - label, 0.3 + 0.4 * label, 0.7 - 0.4 * label):
        scaled = recalibrate(table.assign(probability=probability), 5, method)["probability"]
        assert scaled.between(0, 1).all()
        for _, rows in table.groupby("fold"):
            high = scaled[rows.index][probability[rows.index] > 0.5]
            low = scaled[rows.index][probability[rows.index] < 0.5]
            assert high.min() >= low.max()
    if method == "platt":  # the last reverses the ranking: all get the prevalence
        for fold, rows in table.groupby("fold"):
            expected = smoothed(table["label"][table["fold"] != fold].to_numpy()).mean()
            np.testing.assert_allclose(scaled[rows.index], expected)


def test_other_folds_of_one_class_are_refused():
    table = overconfident(repeats=1)
    table["label"] = (table["fold"] == 1).astype(int)
    with pytest.raises(ValueError, match="fold 1"):
        recalibrate(table, 5, "platt")


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


def test_the_interval_covers_also_where_nearly_every_tumoral_patient_is_found():
    """Over every table of 40 tumoral and 20 reactive patients, no simulation."""
    m, n, sensitivity, wrong, threshold = 40, 20, 0.99, 0.8, 0.05
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
