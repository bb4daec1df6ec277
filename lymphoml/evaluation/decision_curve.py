"""Decision curve: what sending some patients to flow cytometry is worth, against all and none."""

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
    level: float = 0.95,
) -> pd.DataFrame:
    """Net benefit of cytometry for those at or above each threshold. One row a patient goes in.

    Columns: threshold, net_benefit, low, high, all (cytometry for everybody), none (0). In
    tumoral patients found a patient, each needless test counted as threshold / (1 - threshold):

        net benefit = sensitivity p - (1 - specificity) (1 - p) threshold / (1 - threshold)

    with the prevalence p of tumoral patients; Vickers and Elkin 2006, Medical Decision Making
    26:565, where p is the sample's, as it is here by default. Another p weighs the classes and
    leaves the probabilities as they are; `shift_prevalence` moves them, too.

    The interval, pointwise, takes p as known: the Wilson intervals of both rates combined by
    square-and-add (Zou and Donner 2008). The percentile bootstrap would have hardly any
    width where every tumoral patient is found: of 113 and 50 patients at sensitivity 0.99,
    specificity 0.2 and threshold 0.05 it covers 0.68, this one 0.96. NaN where a class is absent.
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
            right, wrong = wilson(found, m, level), wilson(needless, n, level)
            below = np.hypot(p * (found / m - right.low), cost * (wrong.high - needless / n))
            above = np.hypot(p * (right.high - found / m), cost * (needless / n - wrong.low))
            row[2:4] = value - below, value + above
        rows.append(row)
    return pd.DataFrame(rows, columns=["threshold", "net_benefit", "low", "high", "all", "none"])


def weighted_prevalence(prevalence: float, weight: float) -> float:
    """What probabilities are made for where tumoral patients count `weight` times in the loss.

    Cross-entropy so weighed is least at `weight` times the odds. Half, where the weight balances
    the classes.
    """
    return weight * prevalence / (weight * prevalence + 1 - prevalence)


def shift_prevalence(
    probabilities: ArrayLike, prevalence: float, new_prevalence: float
) -> np.ndarray:
    """Probabilities learned at one prevalence as they are at another, by Bayes' rule.

    Holds where the prevalence alone differs: tumoral patients look the same here and there, and
    so do reactive ones. Elkan 2001, IJCAI, theorem 2. Clipped at CLIP first.
    """
    probability = np.clip(np.asarray(probabilities, dtype=float), CLIP, 1 - CLIP)
    return expit(logit(probability) + logit(new_prevalence) - logit(prevalence))
