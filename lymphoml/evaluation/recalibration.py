"""Out-of-fold probabilities made to mean what they say, by scalers fitted on other folds."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, logit

from lymphoml.evaluation.calibration import CLIP

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
