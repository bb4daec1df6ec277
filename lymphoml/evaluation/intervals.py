"""Confidence intervals that keep their level on samples of 20 to 200 patients.

But for `delong` they take counts or estimates rather than predictions, so that a mean over repeated
cross-validations can be put in their place: the patients stay the same, the width of an interval
from counts or from DeLong's variance does too.
"""

from math import acos, copysign, cos, pi
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from scipy.stats import rankdata


class Interval(NamedTuple):
    low: float
    high: float


def wilson(successes: float, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion; NaN without observations.

    `successes` may be fractional. Wilson 1927; Newcombe 1998, Statistics in Medicine 17:857,
    method 3: the proportions that a score test does not reject.
    """
    if n == 0:
        return Interval(np.nan, np.nan)
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (successes + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * (successes * (n - successes) / n + z**2 / 4) ** 0.5
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def balanced_accuracy_interval(
    true_positive: float,
    positives: int,
    true_negative: float,
    negatives: int,
    level: float = 0.95,
) -> Interval:
    """Score interval of (sensitivity + specificity) / 2; NaN where a class is absent.

    The values b that the score test of "the balanced accuracy is b" does not reject,
    |b - estimate| <= z * sqrt(p (1 - p) / m + q (1 - q) / n) / 2, with p and q the likeliest
    sensitivity and specificity whose mean is b. Counts may be fractional.

    Mee 1984, Biometrics 40:1175; method 5 of Newcombe 1998, Statistics in Medicine 17:873, where
    2b - 1 is the difference between the rates of positive calls in the two classes. Square-and-add
    of Wilson's limits is simpler, but covers as little as 0.90 near 1: table in docs/method.md.
    """
    if positives == 0 or negatives == 0:
        return Interval(np.nan, np.nan)
    z = NormalDist().inv_cdf((1 + level) / 2)
    sensitivity, specificity = true_positive / positives, true_negative / negatives
    value = (sensitivity + specificity) / 2

    def limit(outside: float) -> float:
        """Halve the way between the estimate and a bound 60 times."""
        inside = value
        for _ in range(60):
            middle = (inside + outside) / 2
            p = _likeliest(sensitivity, positives, specificity, negatives, middle)
            q = min(max(2 * middle - p, 0.0), 1.0)
            variance = (p * (1 - p) / positives + q * (1 - q) / negatives) / 4
            if (middle - value) ** 2 <= z**2 * variance:
                inside = middle
            else:
                outside = middle
        return inside

    return Interval(limit(0.0), limit(1.0))


def _likeliest(sensitivity: float, m: int, specificity: float, n: int, mean: float) -> float:
    """The sensitivity that maximises the likelihood when the mean of both rates is given.

    The middle root of a cubic, in closed form: Farrington and Manning 1990, Statistics in Medicine
    9:1447, appendix, with p1 the sensitivity, p2 = 1 - specificity, difference 2 * mean - 1.
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
    """The AUROC and its variance; the variance is NaN with fewer than two patients in a class.

    The placement of a positive is the share of negatives that it outranks (ties count half), that
    of a negative the share of positives that outrank it. The AUROC is the mean of either, its
    variance var(placements of positives) / m + var(placements of negatives) / n.
    DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837, equations 4 to 6; placements from
    midranks in O(N log N) as in Sun and Xu 2014, IEEE Signal Processing Letters 21:1389.
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


def auroc_interval(
    auroc: float, variance: float, positives: int, negatives: int, level: float = 0.95
) -> Interval:
    """Interval of an AUROC from DeLong's variance, on the logit scale; NaN where it is undefined.

    logit(A) +- z * sqrt(variance) / (A (1 - A)) stays in (0, 1) and is skewed towards 1/2 as the
    estimate is (Pepe 2003, The Statistical Evaluation of Medical Tests, section 5.2).

    DeLong's variance vanishes when the classes are separated without error and when all scores are
    equal, and is undefined with one patient in a class. The AUROC is then taken for the proportion
    of concordant pairs among `min(positives, negatives)` pairs that share no patient, which are
    independent: Wilson's interval, wider than need be rather than empty.
    """
    if np.isnan(auroc):
        return Interval(np.nan, np.nan)
    if np.isnan(variance) or variance == 0:
        pairs = min(positives, negatives)
        return wilson(auroc * pairs, pairs, level)
    return logit_interval(auroc, variance**0.5, NormalDist().inv_cdf((1 + level) / 2))


def logit_interval(value: float, deviation: float, quantile: float) -> Interval:
    """value +- quantile * deviation carried over to the logit scale, by the delta method."""
    half = quantile * deviation / (value * (1 - value))
    return Interval(float(expit(logit(value) - half)), float(expit(logit(value) + half)))


# A number and the interval that goes with it.


class Estimate(NamedTuple):
    """NaN where undefined; a limit may be infinite where the sample sets none."""

    value: float
    low: float
    high: float


UNDEFINED = Estimate(np.nan, np.nan, np.nan)


def proportion(successes: float, n: int, level: float = 0.95) -> Estimate:
    """A share with Wilson's interval; NaN without observations."""
    if n == 0:
        return UNDEFINED
    return Estimate(successes / n, *wilson(successes, n, level))
