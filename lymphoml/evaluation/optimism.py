"""The best of several configurations: how much its score flatters, and what to expect of it."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lymphoml.evaluation.intervals import UNDEFINED, Estimate
from lymphoml.evaluation.pairs import SCORES, score_pairs
from lymphoml.evaluation.resampling import Draws, draw_patients, resample


class Best(NamedTuple):
    """The configuration of the highest score, that score, and what it is honestly worth."""

    name: str
    score: float
    expected: float  # of new patients, after choosing
    low: float  # its 95 % interval
    high: float
    optimism: float  # score - expected
    gain: Estimate | None = None  # expected of new patients, after choosing, over a reference


def best_of_n_bias(
    labels: ArrayLike,
    configurations: Mapping[str, np.ndarray],
    resamples: int = 2000,
    seed: int = 0,
    reference: np.ndarray | None = None,
) -> dict[str, Best]:
    """By score, the best of all `configurations`' out-of-fold predictions (r, n), corrected.

    Each bootstrap resample of patients (within class) chooses its best configuration and scores it
    on the patients it left out, who had no say; of several equally good ones the mean counts. Their
    mean is the expected score, their 2.5 and 97.5 % quantiles the interval. Tsamardinos, Greasidou
    and Borboudakis 2018, Machine Learning 107:1895 (BBC-CV, with repeats BBC-CVr).

    With a `reference` (r, n), which nobody chooses, each resample also scores it on the patients
    left out, and the choice's score less its own is the gain: paired, as the patients are the same.

    All err on the careful side: a resample chooses by 63 % of the patients, so a little worse
    than the whole cohort does, and scores on the other 37 %, so the interval is wide. It knows of
    these configurations only, not of others tried and thrown away. NaN where a class has fewer
    than two patients.
    """
    positive = np.asarray(labels) == 1
    names = list(configurations)
    pairs = [score_pairs(positive, np.atleast_2d(model)) for model in configurations.values()]
    theirs = None if reference is None else score_pairs(positive, np.atleast_2d(reference))
    m, n = int(positive.sum()), int((~positive).sum())
    result = {}
    for score in SCORES:
        ours = [own[score] for own in pairs]
        scores = [float(own.mean()) for own in ours] if m and n else [np.nan]
        best = int(np.argmax(scores))
        expected = _expected(ours, m, n, resamples, seed)
        gain = (
            None if theirs is None
            # Less the same in every configuration: each resample chooses the same one.
            else _expected([own - theirs[score] for own in ours], m, n, resamples, seed)
        )  # fmt: skip
        result[score] = Best(
            names[best], scores[best], *expected, scores[best] - expected.value, gain
        )
    return result


def _expected(pairs: list[np.ndarray], m: int, n: int, resamples: int, seed: int) -> Estimate:
    """The mean over resamples of what the best configuration reaches on the patients left out."""
    if min(m, n) < 2:
        return UNDEFINED
    left_out = _score_left_out(pairs, m, n, resamples, seed)
    low, high = map(float, np.quantile(left_out, [0.025, 0.975]))
    return Estimate(float(left_out.mean()), low, high)


def _score_left_out(
    pairs: list[np.ndarray], m: int, n: int, resamples: int, seed: int
) -> np.ndarray:
    """Of each resample, the score that its best configuration has on the patients left out.

    Resamples that left nobody of a class out are not counted.
    """
    drawn = draw_patients(m, n, resamples, seed)
    rest = Draws(drawn.positives == 0, drawn.negatives == 0)
    used = rest.positives.any(axis=1) & rest.negatives.any(axis=1)
    drawn, rest = (Draws(*(part[used].astype(float) for part in draws)) for draws in (drawn, rest))
    chosen_by = np.array([resample(own, drawn) for own in pairs])
    scored = np.array([resample(own, rest) for own in pairs])
    best = chosen_by >= chosen_by.max(axis=0) - 1e-12
    return (best * scored).sum(axis=0) / best.sum(axis=0)
