"""Calibration in two numbers: whether probabilities are too bold, and too low.

Everything takes one row a patient. Of repeated cross-validations give one repeat, or mean
probabilities, which are those of an ensemble.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, log_expit, logit
from scipy.stats import chi2, rankdata
from statsmodels.nonparametric.smoothers_lowess import lowess

from lymphoml.evaluation.intervals import UNDEFINED, Estimate, proportion

CLIP = 1e-6  # logits are taken of probabilities within [CLIP, 1 - CLIP]
STEEPEST = 1e6  # slope that is looked for


def calibration_slope(labels: ArrayLike, probabilities: ArrayLike) -> Estimate:
    """b of logit P(tumoral) = a + b logit(probability): below 1 where probabilities are too bold.

    Maximum likelihood (Cox 1958, Biometrika 45:562), the interval that of the profile likelihood,
    95 %: it stays honest where the classes are separated, the slope is infinite and only one limit
    exists. Probabilities are clipped at CLIP. NaN where a class is absent, or all are equal.
    """
    positive, x = _rows(labels, probabilities)
    if not 0 < positive.sum() < len(positive) or np.ptp(x) == 0:
        return UNDEFINED

    def fit(slope: float) -> float:
        return _log_likelihood(positive, slope * x + _intercept(positive, slope * x))

    for sign in (1, -1):
        nearest = (sign * x[~positive]).max()
        if nearest <= (sign * x[positive]).min():
            tied = positive[sign * x == nearest]  # patients at the border remain uncertain
            best = _log_likelihood(tied, np.full(len(tied), logit(tied.mean())))
            return _separated(fit, best, sign)
    value = minimize_scalar(lambda slope: -fit(slope), bracket=(0.0, 1.0), tol=1e-10).x
    best = fit(value)
    return Estimate(float(value), _root(fit, best, value, -1), _root(fit, best, value, 1))


def _separated(fit: Callable[[float], float], best: float, sign: int) -> Estimate:
    """The slope that has only one limit, since the likelihood nears `best` at infinity."""
    start = float(sign)
    while fit(start) <= best - _drop() and abs(start) < STEEPEST:
        start *= 2
    limit = _root(fit, best, start, -sign) if abs(start) < STEEPEST else start
    return Estimate(*((np.inf, limit, np.inf) if sign > 0 else (-np.inf, -np.inf, limit)))


def calibration_intercept(labels: ArrayLike, probabilities: ArrayLike) -> Estimate:
    """Calibration in the large: a of logit P(tumoral) = a + logit(probability).

    Above 0 where probabilities are too low. As `calibration_slope`, with the slope held at 1
    (Van Calster et al. 2019, BMC Medicine 17:230).
    """
    positive, x = _rows(labels, probabilities)
    if not 0 < positive.sum() < len(positive):
        return UNDEFINED
    value = _intercept(positive, x)

    def fit(intercept: float) -> float:
        return _log_likelihood(positive, x + intercept)

    best = fit(value)
    return Estimate(value, _root(fit, best, value, -1), _root(fit, best, value, 1))


def _rows(labels: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Which patients are tumoral, and the clipped logits."""
    probability = np.clip(np.asarray(probabilities, dtype=float), CLIP, 1 - CLIP)
    return np.asarray(labels) == 1, logit(probability)


def _log_likelihood(positive: np.ndarray, logits: np.ndarray) -> float:
    # A certain answer that is right adds 0, also where its logit is infinite.
    return float(np.sum(log_expit(np.where(positive, logits, -logits))))


def _intercept(positive: np.ndarray, offset: np.ndarray) -> float:
    """The best constant beside `offset`: the one that gets the number of positives right."""
    mean = positive.mean()
    low, high = logit(mean) - offset.max() - 1e-9, logit(mean) - offset.min() + 1e-9
    return float(brentq(lambda a: expit(a + offset).mean() - mean, low, high, xtol=1e-12))


def _drop() -> float:
    """How far the log-likelihood falls to the limits of a 95 % interval of one parameter."""
    return float(chi2.ppf(0.95, 1)) / 2


def _root(fit: Callable[[float], float], best: float, start: float, side: int) -> float:
    """Where, beyond `start` on that side, the log-likelihood has fallen by `_drop`."""
    step = 0.1
    while fit(start + side * step) > best - _drop():
        step *= 2
        if step > STEEPEST:
            return side * np.inf
    return float(brentq(lambda v: fit(v) - best + _drop(), start, start + side * step))


# Predicted against observed: whether probabilities mean what they say, to look at.
#
# Everything takes one row a patient. Of repeated cross-validations give one repeat, or mean
# probabilities, which are those of an ensemble.
#


def reliability_bins(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> pd.DataFrame:
    """Mean probability against the observed share of tumoral patients, in bins of equal count.

    Columns: n, probability, observed, low, high (Wilson, 95 %), a row a bin, by probability. Equal
    probabilities share a bin, so that the order of rows plays no part; a bin may then be larger
    than others, or missing.
    """
    positive = np.asarray(labels) == 1
    probability = np.asarray(probabilities, dtype=float)
    number = (rankdata(probability) - 0.5) * bins // max(1, len(probability))
    rows = []
    for one in np.unique(number):
        inside = number == one
        n = int(inside.sum())
        observed = proportion(int(positive[inside].sum()), n)
        rows.append((n, probability[inside].mean(), *observed))
    return pd.DataFrame(rows, columns=["n", "probability", "observed", "low", "high"])


def reliability_curve(
    labels: ArrayLike,
    probabilities: ArrayLike,
    points: int = 50,
    fraction: float = 0.75,
    resamples: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """The same without bins: local regression of the label on the probability.

    Columns: probability (from the lowest to the highest), observed, low, high. Austin and
    Steyerberg 2014, Statistics in Medicine 33:517: lowess that sees `fraction` of the patients at
    each point. The band is pointwise, 95 %, from `resamples` of patients within their class.
    """
    positive = np.asarray(labels) == 1
    probability = np.asarray(probabilities, dtype=float)
    at = np.linspace(probability.min(), probability.max(), points)
    random = np.random.default_rng(seed)
    classes = [np.flatnonzero(positive), np.flatnonzero(~positive)]

    def smooth(rows: np.ndarray) -> np.ndarray:
        x, y = probability[rows], positive[rows].astype(float)
        if np.ptp(x) == 0:
            return np.full(points, y.mean())
        spread = np.random.default_rng(0).uniform(-1e-9, 1e-9, len(x))  # lowess divides by ties
        return np.clip(lowess(y, x + spread, frac=fraction, it=0, xvals=at), 0, 1)

    drawn = [
        smooth(np.concatenate([random.choice(rows, len(rows)) for rows in classes if len(rows)]))
        for _ in range(resamples)
    ]
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    observed = smooth(np.arange(len(probability)))
    return pd.DataFrame({"probability": at, "observed": observed, "low": low, "high": high})


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 10
) -> float:
    """Mean distance of observed from predicted over `reliability_bins`, weighed by patients.

    A side value without an interval: it depends on the bins, and chance alone lifts it above 0
    (to about 0.07 at 163 patients in 10 bins).
    """
    table = reliability_bins(labels, probabilities, bins)
    return float(np.average((table["observed"] - table["probability"]).abs(), weights=table["n"]))


# Out-of-fold probabilities made to mean what they say, by scalers fitted on other folds.

Scaler = Callable[[np.ndarray], np.ndarray]  # logits to logits
TEMPERATURES = (1 / 50, 50.0)


def recalibrate(predictions: pd.DataFrame, folds_per_repeat: int, method: str) -> pd.DataFrame:
    """`predictions` with each fold's probabilities scaled by what the other folds teach.

    `predictions` has the columns patient, fold, label, probability; `method` is one of METHODS.
    The scaler of a fold is fitted on the out-of-fold predictions of the other folds of its repeat.

    So no scaler has seen a label of a patient that it is applied to. But the models behind the
    other folds' predictions were trained on this fold's patients, and the scaler was made for
    those models, not for this one: calibration measured afterwards is nearly, not strictly, that
    of new patients. Strict would be an inner cross-validation, training every model again.
    Rankings stay within each fold; between folds they may change. Raises ValueError where the
    other folds lack a class.
    """
    probability = predictions["probability"].to_numpy(float)
    logits = logit(np.clip(probability, CLIP, 1 - CLIP))
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
    """a + b logit, by maximum likelihood on smoothed labels; b is at least 0.

    Platt 1999, in Advances in Large Margin Classifiers, section 2.2: (m + 1) / (m + 2) for the m
    positives and 1 / (n + 2) for the n negatives keep the slope finite where they are separated.
    A slope below 0 would turn the ranking round: 0, the prevalence for everybody, is used then.
    """
    target = _smooth(positive)

    def intercept(slope: float) -> float:
        low = logit(target.mean()) - (slope * logits).max() - 1e-9
        high = logit(target.mean()) - (slope * logits).min() + 1e-9
        return float(brentq(lambda a: (expit(a + slope * logits) - target).sum(), low, high))

    def gradient(slope: float) -> float:
        """Of the cross-entropy, which is convex, at the best intercept."""
        return float(((expit(intercept(slope) + slope * logits) - target) * logits).sum())

    high = 1.0
    while gradient(high) < 0 and high < 1 / CLIP:
        high *= 2
    slope = 0.0 if gradient(0.0) >= 0 else float(brentq(gradient, 0.0, high))
    constant = intercept(slope)
    return lambda values: constant + slope * values


def fit_temperature(logits: np.ndarray, positive: np.ndarray) -> Scaler:
    """logit / T of least cross-entropy, T within TEMPERATURES: no shift, only less or more bold.

    Guo et al. 2017, ICML, section 4.2; labels smoothed as for Platt's.
    """
    target = _smooth(positive)

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float((np.logaddexp(0, scaled) - target * scaled).sum())

    best = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded",
                           options={"xatol": 1e-8}).x  # fmt: skip
    return lambda values: values / np.exp(best)


def _smooth(positive: np.ndarray) -> np.ndarray:
    m, n = positive.sum(), (~positive).sum()
    return np.where(positive, (m + 1) / (m + 2), 1 / (n + 2))


METHODS = {"platt": fit_platt, "temperature": fit_temperature}
