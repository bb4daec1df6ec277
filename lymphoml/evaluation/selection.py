"""Many models: each against a reference, corrected for multiplicity; the optimism of the best."""

from collections.abc import Mapping
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lymphoml.evaluation.intervals import UNDEFINED, Estimate
from lymphoml.evaluation.paired import (
    PAIR_SCORES,
    PERMUTATIONS,
    RESAMPLES,
    Draws,
    draw_patients,
    paired_differences,
    resample,
    score_pairs,
)

LEVEL, POWER = 0.05, 0.8
PERMUTATIONS_PER_TEST = 200  # so that the least p that Holm's correction can give is 0.005


def compare(
    labels: ArrayLike,
    models: Mapping[str, np.ndarray],
    reference: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 0,
    unseen: int = 0,
) -> pd.DataFrame:
    """Return a row per model and score: its difference to `reference`, interval and p.

    `models` and `reference` are out-of-fold probabilities (r, n). Columns: model, score, value,
    low, high, p, detectable (`smallest_detectable`) and p_holm, corrected over all rows and over
    both scores of `unseen` more models, which were tried and are not given. Larger families get
    more permutations, so that the least p can still fall below 5 %.
    """
    tests = len(PAIR_SCORES) * (len(models) + unseen)
    permutations = max(PERMUTATIONS, PERMUTATIONS_PER_TEST * tests - 1)
    rows = []
    for name, model in models.items():
        differences = paired_differences(labels, model, reference, resamples, seed, permutations)
        for score, difference in differences.items():
            row = {"model": name, "score": score, **difference._asdict()}
            row["detectable"] = smallest_detectable(row.pop("standard_error"))
            rows.append(row)
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p"], unseen * len(PAIR_SCORES)))


def holm(p: ArrayLike, unseen: int = 0) -> np.ndarray:
    """Return p-values after Holm's step-down correction; NaN stays NaN and counts as no test.

    `unseen` further tests, whose p is not known, count as those of the largest. Holm 1979,
    Scandinavian Journal of Statistics 6:65.
    """
    values = np.asarray(p, dtype=float)
    tests = int((~np.isnan(values)).sum())
    order = np.argsort(values)[:tests]  # NaN is sorted to the end
    steps = values[order] * (unseen + np.arange(tests, 0, -1))
    corrected = np.full_like(values, np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def smallest_detectable(standard_error: float, comparisons: int = 1) -> float:
    """Return the true difference that is significant in 80 % of cohorts like this one.

    (z at 1 - 0.05 / (2 comparisons) + z at 0.8) standard errors of the paired difference. With
    `comparisons` above 1 at the first step of Holm's correction. NaN for models that never differ.
    """
    if not standard_error > 0:
        return np.nan
    normal = NormalDist()
    return (normal.inv_cdf(1 - LEVEL / 2 / comparisons) + normal.inv_cdf(POWER)) * standard_error


class Best(NamedTuple):
    """The configuration of the highest score, and the score to expect of it."""

    name: str
    score: float
    expected: float  # of new patients, corrected for the choice
    low: float  # its 95 % interval
    high: float
    optimism: float  # score - expected
    gain: Estimate | None = None  # expected gain over a reference, corrected for the choice


def best_of_n_bias(
    labels: ArrayLike,
    configurations: Mapping[str, np.ndarray],
    resamples: int = RESAMPLES,
    seed: int = 0,
    reference: np.ndarray | None = None,
) -> dict[str, Best]:
    """Return by score the best of `configurations` (out-of-fold, (r, n)), corrected for the choice.

    Each bootstrap resample of patients (within class) chooses its best configuration and scores it
    on the patients left out; of ties the mean counts. The mean of these scores is the expected
    score, their 2.5 and 97.5 % quantiles the interval. A `reference` (r, n) is no candidate: it is
    scored on the same patients left out, and `gain` is the paired difference. NaN where a class has
    fewer than two patients. Errs on the careful side: a resample chooses by 63 % of the patients.
    Tsamardinos et al. 2018, Machine Learning 107:1895 (BBC-CV).
    """
    positive = np.asarray(labels) == 1
    names = list(configurations)
    pairs = [score_pairs(positive, np.atleast_2d(model)) for model in configurations.values()]
    baseline = None if reference is None else score_pairs(positive, np.atleast_2d(reference))
    m, n = int(positive.sum()), int((~positive).sum())
    result = {}
    for score in PAIR_SCORES:
        candidates = [matrices[score] for matrices in pairs]
        scores = [float(matrix.mean()) for matrix in candidates] if m and n else [np.nan]
        best = int(np.argmax(scores))
        expected = _expected(candidates, m, n, resamples, seed)
        gain = None
        if baseline is not None:  # the same subtrahend in all: each resample's choice stays
            gains = [matrix - baseline[score] for matrix in candidates]
            gain = _expected(gains, m, n, resamples, seed)
        optimism = scores[best] - expected.value
        result[score] = Best(names[best], scores[best], *expected, optimism, gain)
    return result


def _expected(pairs: list[np.ndarray], m: int, n: int, resamples: int, seed: int) -> Estimate:
    """Return the mean over resamples of the chosen configuration's score on those left out."""
    if min(m, n) < 2:
        return UNDEFINED
    drawn = draw_patients(m, n, resamples, seed)
    rest = Draws(drawn.positives == 0, drawn.negatives == 0)
    used = rest.positives.any(axis=1) & rest.negatives.any(axis=1)  # both classes are left out
    drawn, rest = (Draws(*(part[used].astype(float) for part in draws)) for draws in (drawn, rest))
    chosen_by = np.array([resample(matrix, drawn) for matrix in pairs])
    scored = np.array([resample(matrix, rest) for matrix in pairs])
    best = chosen_by >= chosen_by.max(axis=0) - 1e-12
    left_out = (best * scored).sum(axis=0) / best.sum(axis=0)
    low, high = map(float, np.quantile(left_out, [0.025, 0.975]))
    return Estimate(float(left_out.mean()), low, high)
