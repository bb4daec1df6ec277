"""Calibration in two numbers: whether probabilities are too bold, and too low.

Everything takes one row a patient. Of repeated cross-validations give one repeat, or mean
probabilities, which are those of an ensemble.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, log_expit, logit
from scipy.stats import chi2

from lymphoml.evaluation.estimate import UNDEFINED, Estimate

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
