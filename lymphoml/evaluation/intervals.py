"""Confidence intervals that keep their level on samples of 20 to 200 patients.

All take counts or estimates rather than predictions, so that a mean over repeated
cross-validations can be put in their place: the patients stay the same, the width does too.
"""

from math import hypot
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


def mover_balanced_accuracy(
    true_positive: float,
    positives: int,
    true_negative: float,
    negatives: int,
    level: float = 0.95,
) -> Interval:
    """Interval of (sensitivity + specificity) / 2 by square-and-add; NaN where a class is absent.

    The distances from each proportion to its own Wilson limits add in quadrature (MOVER):
    low = (p + q) / 2 - sqrt((p - low_p)^2 + (q - low_q)^2) / 2, and high alike.
    Newcombe 1998, Statistics in Medicine 17:873, method 10, with q = 1 - p2; Zou and Donner 2008,
    Statistics in Medicine 27:1693, for the general rule.
    """
    if positives == 0 or negatives == 0:
        return Interval(np.nan, np.nan)
    sensitivity, specificity = true_positive / positives, true_negative / negatives
    of_sensitivity = wilson(true_positive, positives, level)
    of_specificity = wilson(true_negative, negatives, level)
    below = hypot(sensitivity - of_sensitivity.low, specificity - of_specificity.low)
    above = hypot(of_sensitivity.high - sensitivity, of_specificity.high - specificity)
    value = (sensitivity + specificity) / 2
    return Interval(max(0.0, value - below / 2), min(1.0, value + above / 2))


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
    z = NormalDist().inv_cdf((1 + level) / 2)
    half = z * variance**0.5 / (auroc * (1 - auroc))
    return Interval(float(expit(logit(auroc) - half)), float(expit(logit(auroc) + half)))
