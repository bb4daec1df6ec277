"""Decision curve: the net benefit of further tests for some patients, against all and none."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from lymphoml.evaluation.calibration import CLIP
from lymphoml.evaluation.intervals import wilson

THRESHOLDS = tuple(np.round(np.arange(0.01, 0.505, 0.01), 2).tolist())


def decision_curve(
    labels: ArrayLike,
    probabilities: ArrayLike,
    prevalence: float | None = None,
    thresholds: ArrayLike = THRESHOLDS,
) -> pd.DataFrame:
    """Return the net benefit per patient of testing everyone at or above each threshold.

    Takes one row per patient. Columns: threshold, net_benefit, low, high, all, none (0).

        net benefit = sensitivity p - (1 - specificity) (1 - p) threshold / (1 - threshold)

    with the prevalence p of tumoral patients, by default the sample's. Another p weights the
    classes and leaves the probabilities; `shift_prevalence` moves them. The pointwise interval
    combines the Wilson intervals of both rates by square-and-add (Zou and Donner 2008), with p
    known: a bootstrap has no width where every tumoral patient is found. NaN where a class is
    absent. Vickers and Elkin 2006, Medical Decision Making 26:565.
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


def shift_prevalence(
    probabilities: ArrayLike, prevalence: float, new_prevalence: float
) -> np.ndarray:
    """Return probabilities learned at one prevalence as of another, by Bayes' rule.

    Holds where only the prevalence differs. Clipped at CLIP first. Elkan 2001, IJCAI, theorem 2.
    """
    probability = np.clip(np.asarray(probabilities, dtype=float), CLIP, 1 - CLIP)
    return expit(logit(probability) + logit(new_prevalence) - logit(prevalence))
