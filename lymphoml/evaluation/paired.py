"""Two models on the same patients: paired bootstrap interval and permutation test.

Scores are means over pairs of a positive and a negative patient: the AUROC is the share of pairs in
which the positive ranks higher, balanced accuracy the mean of (positive called rightly + negative
called rightly) / 2. A score, its mean over repeats, a difference of two models and all bootstrap
resamples therefore follow from one matrix, m positives by n negatives.

Patients are resampled, the models stay fixed: neither interval nor test includes the variation from
another seed or other training patients. Repeats of the cross-validation add no patient.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from lymphoml.evaluation.intervals import bootstrap_interval
from lymphoml.evaluation.metrics import THRESHOLD

RESAMPLES = 2000
PERMUTATIONS = 9999


class Difference(NamedTuple):
    """Candidate minus reference, its 95 % interval, two-sided p, and bootstrap standard error."""

    value: float
    low: float
    high: float
    p: float
    standard_error: float


class Draws(NamedTuple):
    """How often each patient was drawn, a resample per row: (b, m) and (b, n)."""

    positives: np.ndarray
    negatives: np.ndarray


def rank_pairs(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """(r, m), (r, n) to (m, n): in what share of r repeats the positive is higher; ties half."""
    above, below = positives[:, :, None], negatives[:, None, :]
    return ((above > below) + 0.5 * (above == below)).mean(axis=0)


def call_pairs(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """(r, m), (r, n) to (m, n): the share of the two patients that is called rightly."""
    hits, rejections = (positives > THRESHOLD).mean(axis=0), (negatives <= THRESHOLD).mean(axis=0)
    return (hits[:, None] + rejections) / 2


PAIR_SCORES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "balanced_accuracy": call_pairs,
    "auroc": rank_pairs,
}


def score_pairs(positive: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Return by score the matrix (m, n) whose mean is the score; `probabilities` are (r, m + n)."""
    positives, negatives = probabilities[:, positive], probabilities[:, ~positive]
    return {name: pairs(positives, negatives) for name, pairs in PAIR_SCORES.items()}


def draw_patients(m: int, n: int, resamples: int, seed: int) -> Draws:
    """Draw bootstrap resamples within each class: m positives, n negatives, with replacement."""
    random = np.random.default_rng(seed)
    positives, negatives = (
        random.multinomial(size, np.full(size, 1 / size), resamples).astype(float)
        for size in (m, n)
    )
    return Draws(positives, negatives)


def resample(pairs: np.ndarray, draws: Draws) -> np.ndarray:
    """Return the mean over pairs (m, n) in each resample (b); each must have both classes."""
    totals = np.einsum("bn,bn->b", draws.positives @ pairs, draws.negatives)
    return totals / (draws.positives.sum(axis=1) * draws.negatives.sum(axis=1))


def paired_differences(
    labels: ArrayLike,
    candidate: ArrayLike,
    reference: ArrayLike,
    resamples: int = RESAMPLES,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> dict[str, Difference]:
    """Return the difference in `balanced_accuracy` and `auroc`; NaN where a class is absent.

    `labels` (n) are 0 or 1; `candidate` and `reference` (r, n) or (n) are out-of-fold
    probabilities, a repeat of the cross-validation per row, in the same folds. Scores are averaged
    over repeats within each resample of patients. p is that of `permutation_test`.
    """
    positive, one, other = np.asarray(labels) == 1, _repeats(candidate), _repeats(reference)
    if positive.all() or not positive.any():
        return dict.fromkeys(PAIR_SCORES, Difference(*[np.nan] * 5))
    draws = draw_patients(int(positive.sum()), int((~positive).sum()), resamples, seed)
    of_candidate, of_reference = score_pairs(positive, one), score_pairs(positive, other)
    differences = {}
    for score in PAIR_SCORES:
        pairs = of_candidate[score] - of_reference[score]
        replicates = resample(pairs, draws)
        differences[score] = Difference(
            float(pairs.mean()),
            *bootstrap_interval(replicates, min(pairs.shape)),
            permutation_test(score, positive, one, other, permutations, seed),
            float(replicates.std(ddof=1)),
        )
    return differences


def permutation_test(
    score: str,
    positive: np.ndarray,
    candidate: np.ndarray,
    reference: np.ndarray,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> float:
    """Return the two-sided p of a difference in `score` between two models (r, n).

    Each permutation swaps the two models' predictions of some patients, of all repeats together.
    For the AUROC predictions are first ranked within each model and repeat, so that models that
    differ only in scale do not differ. p = (1 + swaps at least as far from 0) / (1 + permutations).
    Venkatraman and Begg 1996, Biometrika 83:835; Bandos et al. 2005, Statistics in Medicine
    24:2873; Phipson and Smyth 2010.

    With s_i, t_j = -1 for a swapped positive or negative and 1 for the others, pair (i, j)
    contributes (s_i + t_j) / 2 of `kept` and (s_i - t_j) / 2 of `crossed`: the candidate's i
    against the reference's j, less the reverse. So the difference is a sum over patients of sign
    times swing, and many permutations are one product of matrices.
    """
    if score == "auroc":
        candidate, reference = rankdata(candidate, axis=1), rankdata(reference, axis=1)
    pairs = PAIR_SCORES[score]
    one, other = ((model[:, positive], model[:, ~positive]) for model in (candidate, reference))
    kept = pairs(one[0], one[1]) - pairs(other[0], other[1])
    crossed = pairs(one[0], other[1]) - pairs(other[0], one[1])
    of_positives = (kept + crossed).mean(axis=1) / (2 * len(kept))
    of_negatives = (kept - crossed).mean(axis=0) / (2 * kept.shape[1])
    swings = np.concatenate([of_positives, of_negatives])
    random = np.random.default_rng(seed)
    as_far = 0
    for done in range(0, permutations, PERMUTATIONS):  # in blocks, which bounds the memory
        shape = (min(PERMUTATIONS, permutations - done), len(swings))
        signs = 1.0 - 2.0 * random.integers(0, 2, shape, dtype=np.int8)
        as_far += int((np.abs(signs @ swings) >= abs(swings.sum()) - 1e-12).sum())
    return (1 + as_far) / (1 + permutations)


def _repeats(model: ArrayLike) -> np.ndarray:
    """Return probabilities as (r, n), also those of a single repeat (n)."""
    return np.atleast_2d(np.asarray(model, dtype=float))
