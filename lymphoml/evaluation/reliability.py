"""Predicted against observed: whether probabilities mean what they say, to look at.

Everything takes one row a patient. Of repeated cross-validations give one repeat, or mean
probabilities, which are those of an ensemble.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata
from statsmodels.nonparametric.smoothers_lowess import lowess

from lymphoml.evaluation.estimate import proportion


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
