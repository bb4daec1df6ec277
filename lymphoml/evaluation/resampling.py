"""Two models on the same patients: paired bootstrap intervals of their difference.

Patients are resampled, the trained models stay as they are: neither interval nor test knows what
another seed or other training patients would have given. Repeats of the cross-validation average
some of that out, and add no patient.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from lymphoml.evaluation.intervals import Interval
from lymphoml.evaluation.metrics import SENSITIVITY, THRESHOLD
from lymphoml.evaluation.pairs import SCORES, score_pairs
from lymphoml.evaluation.permutation_test import PERMUTATIONS, swap_test
from lymphoml.evaluation.rule_out import sample_rank

RESAMPLES = 2000


class Difference(NamedTuple):
    """Candidate minus reference, its 95 % interval, and the two-sided p of no difference."""

    value: float
    low: float
    high: float
    p: float


class Draws(NamedTuple):
    """How often each patient was drawn, a row a resample: (b, m) and (b, n)."""

    positives: np.ndarray
    negatives: np.ndarray


def paired_differences(
    labels: ArrayLike,
    candidate: ArrayLike,
    reference: ArrayLike,
    resamples: int = RESAMPLES,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> dict[str, Difference]:
    """Differences in `balanced_accuracy` (at 0.5) and `auroc`; NaN where a class is absent.

    `labels` (n) are 0 or 1; `candidate` and `reference` (r, n) hold the probabilities of a repeat
    of the cross-validation a row, in the same folds. Scores are averaged over repeats within each
    resample of patients. p is that of `swap_test`, of so many `permutations`.
    """
    positive, one, other = np.asarray(labels) == 1, _repeats(candidate), _repeats(reference)
    if positive.all() or not positive.any():
        return {score: Difference(np.nan, np.nan, np.nan, np.nan) for score in SCORES}
    draws = draw_patients(int(positive.sum()), int((~positive).sum()), resamples, seed)
    return {
        score: Difference(
            float(pairs.mean()),
            *bootstrap_interval(resample(pairs, draws), min(pairs.shape)),
            swap_test(score, positive, one, other, permutations, seed),
        )
        for score, pairs in _difference_pairs(positive, one, other).items()
    }


def standard_errors(
    labels: ArrayLike,
    candidate: ArrayLike,
    reference: ArrayLike,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, float]:
    """Of the same differences, the standard deviation over the same resamples."""
    positive, one, other = np.asarray(labels) == 1, _repeats(candidate), _repeats(reference)
    if positive.all() or not positive.any():
        return dict.fromkeys(SCORES, np.nan)
    draws = draw_patients(int(positive.sum()), int((~positive).sum()), resamples, seed)
    return {
        score: float(resample(pairs, draws).std(ddof=1))
        for score, pairs in _difference_pairs(positive, one, other).items()
    }


def draw_patients(m: int, n: int, resamples: int, seed: int) -> Draws:
    """Bootstrap resamples, drawn with replacement within each class: m positives, n negatives."""
    random = np.random.default_rng(seed)
    positives, negatives = (
        random.multinomial(size, np.full(size, 1 / size), resamples).astype(float)
        for size in (m, n)
    )
    return Draws(positives, negatives)


def resample(pairs: np.ndarray, draws: Draws) -> np.ndarray:
    """The mean over pairs (m, n) in each resample (b), which must draw somebody of each class."""
    totals = np.einsum("bn,bn->b", draws.positives @ pairs, draws.negatives)
    return totals / (draws.positives.sum(axis=1) * draws.negatives.sum(axis=1))


def bootstrap_interval(replicates: np.ndarray, patients: int, level: float = 0.95) -> Interval:
    """The expanded percentile interval; `patients` are those of the smaller class.

    The plain percentile interval is too narrow by the factor sqrt((k - 1) / k) and by taking a
    normal quantile for Student's with k - 1 degrees of freedom; the quantiles are moved out by
    both. Hesterberg 2015, The American Statistician 69:371. Coverage beside that of
    others in docs/method.md. NaN with fewer than two patients.
    """
    if patients < 2:
        return Interval(np.nan, np.nan)
    quantile = student.ppf((1 + level) / 2, patients - 1) * (patients / (patients - 1)) ** 0.5
    tail = NormalDist().cdf(-quantile)
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return Interval(float(low), float(high))


def _repeats(model: ArrayLike) -> np.ndarray:
    """Probabilities as (r, n), also those of a single repeat (n)."""
    return np.atleast_2d(np.asarray(model, dtype=float))


def _difference_pairs(
    positive: np.ndarray, candidate: np.ndarray, reference: np.ndarray
) -> dict[str, np.ndarray]:
    one, other = score_pairs(positive, candidate), score_pairs(positive, reference)
    return {score: one[score] - other[score] for score in SCORES}


# Scores of weighted patients, for many sets of weights at once: what a bootstrap resample is.
#
# A weight is how often a patient was drawn. Labels are 0 or 1 (n), probabilities (n), weights (b, n);
# all return (b), NaN where a score is undefined.
#

Array = np.ndarray


def draw_weights(labels: Array, resamples: int, seed: int) -> Array:
    """Bootstrap weights (resamples, n): patients drawn with replacement within each class."""
    positive = labels == 1
    draws = draw_patients(int(positive.sum()), int((~positive).sum()), resamples, seed)
    weights = np.empty((resamples, len(labels)))
    weights[:, positive], weights[:, ~positive] = draws
    return weights


def specificity_at_95(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Each resample has a threshold of its own: that of its tumoral patients."""
    tumoral, reactive = labels == 1, labels != 1
    ordered = np.flatnonzero(tumoral)[np.argsort(probabilities[tumoral])]
    below = np.cumsum(weights[:, ordered], axis=1)  # itself included
    ranks = sample_rank(below[:, -1:], SENSITIVITY)
    thresholds = probabilities[ordered][(below >= ranks).argmax(axis=1)]
    spared = probabilities[reactive] < thresholds[:, None]
    return (weights[:, reactive] * spared).sum(axis=1) / weights[:, reactive].sum(axis=1)


def average_precision(labels: Array, probabilities: Array, weights: Array) -> Array:
    """The step-wise area under the precision-recall curve; equal probabilities are one step."""
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    ends = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    true = np.cumsum(weights[:, order] * labels[order], axis=1)[:, ends]
    called = np.cumsum(weights[:, order], axis=1)[:, ends]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(called > 0, true / called, 0.0)
        recall = true / true[:, -1:]
        return np.sum(np.diff(recall, axis=1, prepend=0.0) * precision, axis=1)


def f1(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Of the tumoral class at THRESHOLD; 0 where nobody is tumoral or called so."""
    true, false_alarm, missed, _ = _confusion(labels, probabilities, weights)
    return _ratio(2 * true, 2 * true + false_alarm + missed)


def matthews(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Matthews' correlation at THRESHOLD; 0 where all are called alike."""
    true, false_alarm, missed, rest = _confusion(labels, probabilities, weights)
    called, tumoral = true + false_alarm, true + missed
    spread = np.sqrt(called * tumoral * (missed + rest) * (false_alarm + rest))
    return _ratio(true * rest - false_alarm * missed, spread)


def brier(labels: Array, probabilities: Array, weights: Array) -> Array:
    return weights @ (probabilities - labels) ** 2 / weights.sum(axis=1)


def _confusion(labels: Array, probabilities: Array, weights: Array) -> Array:
    """True positives, false positives, false negatives, true negatives (4 b)."""
    called, tumoral = probabilities > THRESHOLD, labels == 1
    groups = (called & tumoral, called & ~tumoral, ~called & tumoral, ~called & ~tumoral)
    return np.array([weights @ group for group in groups])


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
