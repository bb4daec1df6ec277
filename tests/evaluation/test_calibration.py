import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import chi2
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from lymphoml.evaluation.calibration import (
    CLIP,
    METHODS,
    calibration_intercept,
    calibration_slope,
    recalibrate,
    reliability_bins,
)
from lymphoml.evaluation.intervals import wilson

DROP = chi2.ppf(0.95, 1)  # of twice the log-likelihood at the limits


def cohort(n=163, slope=0.7, shift=0.3, seed=0):
    """Labels that follow `shift + slope logit(probability)`."""
    random = np.random.default_rng(seed)
    logits = random.normal(0.5, 1.5, n)
    return (random.random(n) < expit(shift + slope * logits)).astype(int), expit(logits)


def fit(labels, offset, x=None):
    """The coefficients (constant, then of x) and twice the maximal log-likelihood, by search."""
    columns = np.ones((len(offset), 1)) if x is None else np.column_stack([np.ones(len(x)), x])

    def loss(b):
        z = columns @ b + offset
        return np.sum(np.logaddexp(0, z) - labels * z)

    found = minimize(loss, np.zeros(columns.shape[1]), method="BFGS", options={"gtol": 1e-8})
    return found.x, -2 * found.fun


def test_slope_and_its_limits_are_those_of_the_profile_likelihood():
    labels, probabilities = cohort()
    x = logit(probabilities)
    (_, slope), best = fit(labels, np.zeros(len(x)), x)
    value, low, high = calibration_slope(labels, probabilities)
    assert value == pytest.approx(slope, abs=1e-5)
    assert low < value < high
    for limit in (low, high):
        assert best - fit(labels, limit * x)[1] == pytest.approx(DROP, abs=1e-4)


def test_intercept_and_its_limits_are_those_of_the_likelihood():
    labels, probabilities = cohort()
    x = logit(probabilities)
    (intercept,), best = fit(labels, x)
    value, low, high = calibration_intercept(labels, probabilities)
    assert value == pytest.approx(intercept, abs=1e-5)
    for limit in (low, high):
        right = np.where(labels == 1, expit(x + limit), 1 - expit(x + limit))
        assert best - 2 * np.log(right).sum() == pytest.approx(DROP, abs=1e-5)


@pytest.mark.parametrize("count", [80, pytest.param(300, marks=pytest.mark.slow)])
def test_intervals_of_calibrated_probabilities_cover_1_and_0(count):
    covered = []
    for seed in range(count):
        labels, probabilities = cohort(60, slope=1, shift=0, seed=seed)
        slope = calibration_slope(labels, probabilities)
        intercept = calibration_intercept(labels, probabilities)
        covered.append((slope.low <= 1 <= slope.high, intercept.low <= 0 <= intercept.high))
    low, high = (0.92, 0.98) if count == 300 else (0.88, 0.999)
    assert (np.mean(covered, axis=0) > low).all()
    assert (np.mean(covered, axis=0) < high).all()


def test_separated_classes_have_an_infinite_slope_with_one_limit():
    labels, probabilities = np.repeat([0, 1], [20, 30]), np.linspace(0.3, 0.8, 50)
    value, low, high = calibration_slope(labels, probabilities)
    assert (value, high) == (np.inf, np.inf)
    assert -fit(labels, low * logit(probabilities))[1] == pytest.approx(DROP, abs=1e-4)
    assert calibration_slope(1 - labels, probabilities) == pytest.approx((-np.inf, -np.inf, -low))


def test_a_border_shared_by_both_classes_still_has_no_finite_slope():
    labels = np.array([0, 0, 0, 1, 0, 1, 1] * 4)
    probabilities = np.array([0.1, 0.2, 0.5, 0.5, 0.5, 0.8, 0.9] * 4)
    value, low, high = calibration_slope(labels, probabilities)
    assert (value, high) == (np.inf, np.inf)
    best = 12 * (1 / 3 * np.log(1 / 3) + 2 / 3 * np.log(2 / 3))  # 12 tied, a third tumoral
    held = fit(labels, low * logit(probabilities))[1]
    assert 2 * best - held == pytest.approx(DROP, abs=1e-4)


def test_certain_probabilities_are_clipped_and_one_class_is_undefined():
    labels = np.array([0, 1, 0, 1, 1, 0])
    certain = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    clipped = certain.clip(CLIP, 1 - CLIP)
    assert calibration_slope(labels, certain) == calibration_slope(labels, clipped)
    assert np.isfinite(calibration_intercept(labels, certain)).all()
    assert np.isnan(calibration_slope([1, 1], [0.2, 0.3])).all()
    assert np.isnan(calibration_slope([0, 1], [0.2, 0.2])).all()
    assert np.isnan(calibration_intercept([0, 0], [0.2, 0.3])).all()


def test_bins_are_those_of_scikit_learn_with_wilsons_limits():
    labels, probabilities = cohort(160)
    bins = reliability_bins(labels, probabilities, bins=8)
    observed, predicted = calibration_curve(labels, probabilities, n_bins=8, strategy="quantile")
    np.testing.assert_allclose(bins["observed"], observed)
    np.testing.assert_allclose(bins["probability"], predicted)
    assert (bins["n"] == 20).all()
    for row in bins.itertuples():
        assert (row.low, row.high) == wilson(round(row.observed * 20), 20)


def test_ties_share_a_bin_in_any_order_of_rows():
    # Ranks 1 to 3 are tied at 2, so that the first bin of two holds three of four.
    assert reliability_bins([0, 1, 0, 1], [0.4, 0.4, 0.4, 0.9], bins=2)["n"].tolist() == [3, 1]
    labels, probabilities = cohort()
    order = np.random.default_rng(1).permutation(len(labels))
    bins, again = (
        reliability_bins(labels[rows], probabilities[rows].round(1)) for rows in (..., order)
    )
    np.testing.assert_allclose(bins, again)


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
def test_a_folds_own_labels_do_not_change_its_probabilities(method):
    table = overconfident(repeats=1)
    own = table["fold"] == 2
    other = table.assign(label=table["label"].where(~own, 1 - table["label"]))
    one, two = (recalibrate(rows, 5, method)["probability"] for rows in (table, other))
    np.testing.assert_array_equal(one[own], two[own])
    assert (one[~own] != two[~own]).all()


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
