"""Calibration of probabilities and the net benefit of acting on them (decision curve).

Everything takes one row per patient. Of repeated cross-validations pass one repeat, or each
patient's mean over repeats.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, log_expit, logit
from scipy.stats import chi2, rankdata

from lymphoml.evaluation.intervals import UNDEFINED, Estimate, proportion, wilson

CLIP = 1e-6  # logits are taken of probabilities within [CLIP, 1 - CLIP]
MAX_SLOPE = 1e6  # where the search ends
TEMPERATURES = (1 / 50, 50.0)
MAX_BINS, MIN_BIN_SIZE = 10, 5
# Fall of the log-likelihood at the limits of a 95 % interval of one parameter.
DROP = float(chi2.ppf(0.95, 1)) / 2
THRESHOLDS = tuple(np.round(np.arange(0.01, 0.505, 0.01), 2).tolist())  # of a decision curve

Scaler = Callable[[np.ndarray], np.ndarray]  # logits to logits


def calibration_slope(labels: ArrayLike, probabilities: ArrayLike) -> Estimate:
    """Return b of logit P(tumoral) = a + b logit(probability): below 1 where overconfident.

    Maximum likelihood, with the 95 % interval of the profile likelihood. Where the classes are
    separated the slope is infinite and has one limit only. NaN where a class is absent or all
    probabilities are equal. Cox 1958, Biometrika 45:562.
    """
    positive, x = np.asarray(labels) == 1, _logits(probabilities)
    if not 0 < positive.sum() < len(positive) or np.ptp(x) == 0:
        return UNDEFINED

    def profile(slope: float) -> float:
        return _log_likelihood(positive, slope * x + _intercept(positive, slope * x))

    for sign in (1, -1):
        nearest = (sign * x[~positive]).max()
        if nearest <= (sign * x[positive]).min():
            tied = positive[sign * x == nearest]  # patients on the border remain uncertain
            best = _log_likelihood(tied, np.full(len(tied), logit(tied.mean())))
            return _separated(profile, best, sign)
    value = minimize_scalar(lambda slope: -profile(slope), bracket=(0.0, 1.0), tol=1e-10).x
    return _profile_interval(profile, float(value))


def calibration_intercept(labels: ArrayLike, probabilities: ArrayLike) -> Estimate:
    """Return a of logit P(tumoral) = a + logit(probability): above 0 where underestimated.

    Calibration in the large. As `calibration_slope`, with the slope fixed at 1. Van Calster et al.
    2019, BMC Medicine 17:230.
    """
    positive, x = np.asarray(labels) == 1, _logits(probabilities)
    if not 0 < positive.sum() < len(positive):
        return UNDEFINED
    return _profile_interval(lambda a: _log_likelihood(positive, x + a), _intercept(positive, x))


def recalibration(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Estimate, Estimate]:
    """Return a and b of logit P(tumoral) = a + b logit(probability), fitted together.

    As `calibration_slope`, which is b; a is NaN where b is infinite or NaN.
    """
    slope = calibration_slope(labels, probabilities)
    if not np.isfinite(slope.value):
        return UNDEFINED, slope
    positive, x = np.asarray(labels) == 1, _logits(probabilities)

    def profile(a: float) -> float:
        return -minimize_scalar(
            lambda b: -_log_likelihood(positive, a + b * x), bracket=(0.0, 1.0), tol=1e-10
        ).fun

    return _profile_interval(profile, _intercept(positive, slope.value * x)), slope


def reliability_bins(
    labels: ArrayLike, probabilities: ArrayLike, bins: int | None = None
) -> pd.DataFrame:
    """Return mean probability and observed share of tumoral patients in bins of equal count.

    By default MAX_BINS, or fewer so that each has MIN_BIN_SIZE patients.
    Columns: n, probability, observed, low, high (Wilson, 95 %), a row per bin. Equal probabilities
    share a bin, which may be larger then, and another be missing.
    """
    positive = np.asarray(labels) == 1
    probability = np.asarray(probabilities, dtype=float)
    if bins is None:
        bins = int(np.clip(len(positive) // MIN_BIN_SIZE, 1, MAX_BINS))
    number = (rankdata(probability) - 0.5) * bins // max(1, len(probability))
    rows = []
    for inside in (number == each for each in np.unique(number)):
        n = int(inside.sum())
        rows.append((n, probability[inside].mean(), *proportion(int(positive[inside].sum()), n)))
    return pd.DataFrame(rows, columns=["n", "probability", "observed", "low", "high"])


def recalibrate(predictions: pd.DataFrame, folds_per_repeat: int, method: str) -> pd.DataFrame:
    """Return `predictions` with each fold's probabilities rescaled by a fit to the other folds.

    `predictions` has the columns patient, fold, label, probability; `method` is one of METHODS. No
    scaler sees a label that it is applied to, but the models of the repeat's other folds trained on
    this fold's patients: it is not strictly nested. The ranking within a fold stays. Raises
    ValueError where the other folds lack a class.
    """
    logits = _logits(predictions["probability"])
    positive = predictions["label"].to_numpy() == 1
    fold = predictions["fold"].to_numpy()
    scaled = np.empty(len(fold))
    for number in np.unique(fold):
        held_out = fold == number
        others = (fold // folds_per_repeat == number // folds_per_repeat) & ~held_out
        if not 0 < positive[others].sum() < others.sum():
            raise ValueError(f"fold {number}: the other folds of its repeat lack a class")
        scaler = METHODS[method](logits[others], positive[others])
        scaled[held_out] = expit(scaler(logits[held_out]))
    return predictions.assign(probability=scaled)


def fit_platt(logits: np.ndarray, positive: np.ndarray) -> Scaler:
    """Fit a + b logit by maximum likelihood on smoothed labels, b at least 0.

    Smoothing keeps b finite where the classes are separated. A negative b would reverse the
    ranking: all get the prevalence instead. Platt 1999, Advances in Large Margin Classifiers, 2.2.
    """
    target = _smooth(positive)

    def gradient(slope: float) -> float:
        """Return that of the cross-entropy, which is convex, at the best intercept."""
        logits_now = slope * logits
        return float(((expit(_intercept(target, logits_now) + logits_now) - target) * logits).sum())

    high = 1.0
    while gradient(high) < 0 and high < 1 / CLIP:
        high *= 2
    slope = 0.0 if gradient(0.0) >= 0 else float(brentq(gradient, 0.0, high))
    constant = _intercept(target, slope * logits)
    return lambda values: constant + slope * values


def fit_temperature(logits: np.ndarray, positive: np.ndarray) -> Scaler:
    """Fit logit / T of least cross-entropy on smoothed labels, T within TEMPERATURES.

    Guo et al. 2017, ICML, section 4.2.
    """
    target = _smooth(positive)

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float((np.logaddexp(0, scaled) - target * scaled).sum())

    search = {"bounds": np.log(TEMPERATURES), "method": "bounded", "options": {"xatol": 1e-8}}
    best = minimize_scalar(loss, **search).x
    return lambda values: values / np.exp(best)


METHODS = {"platt": fit_platt, "temperature": fit_temperature}


def decision_curve(
    labels: ArrayLike, probabilities: ArrayLike, prevalence: float | None = None,
    thresholds: ArrayLike = THRESHOLDS,
) -> pd.DataFrame:  # fmt: skip
    """Return the net benefit per patient of testing everyone at or above each threshold.

    Columns: threshold, net_benefit, low, high, all, none (0).

        net benefit = sensitivity p - (1 - specificity) (1 - p) threshold / (1 - threshold)

    with the prevalence p of tumoral patients, by default the sample's. Another p weights the
    classes and leaves the probabilities; `shift_prevalence` moves them. The pointwise interval
    combines Wilson's of both rates by square-and-add (Zou and Donner 2008), with p known. NaN where
    a class is absent. Vickers and Elkin 2006, Medical Decision Making 26:565.
    """
    positive = np.asarray(labels) == 1
    probability = np.asarray(probabilities, dtype=float)
    tumoral, reactive = np.sort(probability[positive]), np.sort(probability[~positive])
    m, n = len(tumoral), len(reactive)
    p = m / (m + n) if prevalence is None else prevalence
    rows = []
    for threshold in np.atleast_1d(np.asarray(thresholds, dtype=float)).tolist():
        cost = (1 - p) * threshold / (1 - threshold)
        row = [threshold, np.nan, np.nan, np.nan, p - cost, 0.0]
        if m and n:
            found = m - int(np.searchsorted(tumoral, threshold))
            needless = n - int(np.searchsorted(reactive, threshold))
            row[1] = value = p * found / m - cost * needless / n
            right, wrong = wilson(found, m), wilson(needless, n)
            below = np.hypot(p * (found / m - right.low), cost * (wrong.high - needless / n))
            above = np.hypot(p * (right.high - found / m), cost * (needless / n - wrong.low))
            row[2:4] = value - below, value + above
        rows.append(row)
    return pd.DataFrame(rows, columns=["threshold", "net_benefit", "low", "high", "all", "none"])


def weighted_prevalence(prevalence: float, weight: float) -> float:
    """Return the prevalence that a loss with positives weighted by `weight` fits."""
    return weight * prevalence / (weight * prevalence + 1 - prevalence)


def shift_prevalence(probabilities: ArrayLike, prevalence: float, new: float) -> np.ndarray:
    """Return probabilities learned at one prevalence as of another, by Bayes' rule.

    Holds where only the prevalence differs. Clipped at CLIP first. Elkan 2001, IJCAI, theorem 2.
    """
    return expit(_logits(probabilities) + logit(new) - logit(prevalence))


def _logits(probabilities: ArrayLike) -> np.ndarray:
    return logit(np.clip(np.asarray(probabilities, dtype=float), CLIP, 1 - CLIP))


def _smooth(positive: np.ndarray) -> np.ndarray:
    """Return Platt's targets: (m + 1) / (m + 2) for m positives, 1 / (n + 2) for n negatives."""
    m, n = positive.sum(), (~positive).sum()
    return np.where(positive, (m + 1) / (m + 2), 1 / (n + 2))


def _log_likelihood(positive: np.ndarray, logits: np.ndarray) -> float:
    # By sign, so that a certain right answer adds 0 also where its logit is infinite.
    return float(np.sum(log_expit(np.where(positive, logits, -logits))))


def _intercept(target: np.ndarray, offset: np.ndarray) -> float:
    """Return the intercept at which the mean probability is the mean target, given `offset`."""
    mean = target.mean()
    low, high = logit(mean) - offset.max() - 1e-9, logit(mean) - offset.min() + 1e-9
    return float(brentq(lambda a: expit(a + offset).mean() - mean, low, high, xtol=1e-12))


def _profile_interval(profile: Callable[[float], float], value: float) -> Estimate:
    best = profile(value)
    return Estimate(value, *(_limit(profile, best, value, side) for side in (-1, 1)))


def _separated(profile: Callable[[float], float], best: float, sign: int) -> Estimate:
    """Return the infinite slope of separated classes; the likelihood nears `best` at infinity."""
    start = float(sign)
    while profile(start) <= best - DROP and abs(start) < MAX_SLOPE:
        start *= 2
    limit = _limit(profile, best, start, -sign) if abs(start) < MAX_SLOPE else start
    return Estimate(np.inf, limit, np.inf) if sign > 0 else Estimate(-np.inf, -np.inf, limit)


def _limit(profile: Callable[[float], float], best: float, start: float, side: int) -> float:
    """Return where, on that side of `start`, the log-likelihood has fallen by DROP."""
    step = 0.1
    while profile(start + side * step) > best - DROP:
        step *= 2
        if step > MAX_SLOPE:
            return side * np.inf
    return float(brentq(lambda v: profile(v) - best + DROP, start, start + side * step))
