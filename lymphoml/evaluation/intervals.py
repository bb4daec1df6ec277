"""95 % confidence intervals that keep their level on samples of 20 to 200 patients.

All but `delong` take counts or estimates rather than predictions, so that a mean over repeated
cross-validations can take their place: the number of patients, and so the width, stays the same.
"""

from math import acos, copysign, cos, pi
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from scipy.stats import rankdata
from scipy.stats import t as student

Z = NormalDist().inv_cdf(0.975)


class Interval(NamedTuple):
    low: float
    high: float


class Estimate(NamedTuple):
    """A value and its interval; NaN where undefined, infinite where the sample sets no limit."""

    value: float
    low: float
    high: float


NO_INTERVAL = Interval(np.nan, np.nan)
UNDEFINED = Estimate(np.nan, np.nan, np.nan)


def wilson(successes: float, n: int) -> Interval:
    """Return Wilson's score interval of a proportion; NaN without observations.

    `successes` may be fractional. Newcombe 1998, Statistics in Medicine 17:857, method 3.
    """
    if n == 0:
        return NO_INTERVAL
    centre = (successes + Z**2 / 2) / (n + Z**2)
    half = Z / (n + Z**2) * (successes * (n - successes) / n + Z**2 / 4) ** 0.5
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def proportion(successes: float, n: int) -> Estimate:
    """Return a proportion with Wilson's interval; NaN without observations."""
    return Estimate(successes / n, *wilson(successes, n)) if n else UNDEFINED


def balanced_accuracy_interval(
    true_positive: float, positives: int, true_negative: float, negatives: int
) -> Interval:
    """Return the score interval of (sensitivity + specificity) / 2; NaN where a class is absent.

    It holds the values b that the score test of "the balanced accuracy is b" does not reject:
    abs(b - estimate) <= z * sqrt(p (1 - p) / m + q (1 - q) / n) / 2, with p and q the likeliest
    sensitivity and specificity whose mean is b. Counts may be fractional. Method 5 of Newcombe
    1998, Statistics in Medicine 17:873, where 2b - 1 is the difference of two proportions.
    """
    if positives == 0 or negatives == 0:
        return NO_INTERVAL
    sensitivity, specificity = true_positive / positives, true_negative / negatives
    value = (sensitivity + specificity) / 2

    def limit(outside: float) -> float:
        """Bisect between the estimate and a bound, 60 times."""
        inside = value
        for _ in range(60):
            middle = (inside + outside) / 2
            p = _likeliest(sensitivity, positives, specificity, negatives, middle)
            q = min(max(2 * middle - p, 0.0), 1.0)
            variance = (p * (1 - p) / positives + q * (1 - q) / negatives) / 4
            if (middle - value) ** 2 <= Z**2 * variance:
                inside = middle
            else:
                outside = middle
        return inside

    return Interval(limit(0.0), limit(1.0))


def _likeliest(sensitivity: float, m: int, specificity: float, n: int, mean: float) -> float:
    """Return the sensitivity of highest likelihood where the mean of both rates is given.

    The middle root of a cubic: Farrington and Manning 1990, Statistics in Medicine 9:1447,
    appendix, with p1 the sensitivity, p2 = 1 - specificity and the difference 2 * mean - 1.
    """
    ratio, other, difference = n / m, 1 - specificity, 2 * mean - 1
    a = 1 + ratio
    b = -(a + sensitivity + ratio * other + difference * (ratio + 2))
    c = difference**2 + difference * (2 * sensitivity + a) + sensitivity + ratio * other
    d = -sensitivity * difference * (1 + difference)
    v = b**3 / (27 * a**3) - b * c / (6 * a**2) + d / (2 * a)
    u = copysign(max(b**2 / (9 * a**2) - c / (3 * a), 0.0) ** 0.5, v)
    cosine = min(max(v / u**3, -1.0), 1.0) if u else 1.0
    root = 2 * u * cos((pi + acos(cosine)) / 3) - b / (3 * a)
    return min(max(root, 0.0, difference), 1.0, 1 + difference)


def delong(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Return the AUROC and its variance, NaN with fewer than two patients in a class.

    The placement of a positive is the share of negatives below it (ties count half), that of a
    negative the share of positives above it. The AUROC is the mean of either, its variance
    var(placements of positives) / m + var(placements of negatives) / n. DeLong et al. 1988,
    Biometrics 44:837; from midranks as in Sun and Xu 2014, IEEE Signal Processing Letters 21:1389.
    """
    positive = np.asarray(labels) == 1
    scores = np.asarray(scores, dtype=float)
    m, n = int(positive.sum()), int((~positive).sum())
    if m == 0 or n == 0:
        return np.nan, np.nan
    ranks = rankdata(scores)
    of_positives = (ranks[positive] - rankdata(scores[positive])) / n
    of_negatives = 1 - (ranks[~positive] - rankdata(scores[~positive])) / m
    value = float(of_positives.mean())
    if m == 1 or n == 1:
        return value, np.nan
    return value, float(of_positives.var(ddof=1) / m + of_negatives.var(ddof=1) / n)


def auroc_interval(auroc: float, variance: float, positives: int, negatives: int) -> Interval:
    """Return the interval of an AUROC from DeLong's variance, on the logit scale.

    Where that variance vanishes (the classes separated, or all scores equal) or is undefined (one
    patient in a class), the AUROC counts as a proportion of `min(positives, negatives)`
    independent pairs: Wilson's interval, too wide rather than empty. Pepe 2003, The Statistical
    Evaluation of Medical Tests, section 5.2.
    """
    if np.isnan(auroc):
        return NO_INTERVAL
    if np.isnan(variance) or variance == 0:
        pairs = min(positives, negatives)
        return wilson(auroc * pairs, pairs)
    return logit_interval(auroc, variance**0.5, Z)


def logit_interval(value: float, deviation: float, quantile: float) -> Interval:
    """Return value +- quantile * deviation, carried over to the logit scale (delta method)."""
    half = quantile * deviation / (value * (1 - value))
    return Interval(float(expit(logit(value) - half)), float(expit(logit(value) + half)))


def bootstrap_interval(replicates: np.ndarray, patients: int) -> Interval:
    """Return the expanded percentile interval; `patients` are those of the smaller class.

    The plain percentile interval is too narrow by the factor sqrt((k - 1) / k), and by taking a
    normal quantile for Student's with k - 1 degrees of freedom; both are undone. NaN with fewer
    than two patients. Hesterberg 2015, The American Statistician 69:371.
    """
    if patients < 2:
        return NO_INTERVAL
    quantile = student.ppf(0.975, patients - 1) * (patients / (patients - 1)) ** 0.5
    tail = NormalDist().cdf(-quantile)
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return Interval(float(low), float(high))
