"""Models on the same patients: paired bootstrap interval, permutation test, choice of the best.

Scores are means over pairs of a positive and a negative patient: the AUROC is the share of pairs in
which the positive ranks higher, balanced accuracy the mean of (positive called rightly + negative
called rightly) / 2. A score, its mean over repeats, a difference of two models and all bootstrap
resamples therefore follow from one matrix, m positives by n negatives.

Patients are resampled, the models stay fixed: neither interval nor test includes the variation from
another seed or other training patients. Repeats of the cross-validation add no patient.
"""

from collections.abc import Mapping
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from lymphoml.evaluation.intervals import UNDEFINED, Estimate, bootstrap_interval
from lymphoml.evaluation.metrics import THRESHOLD

RESAMPLES = 2000
PERMUTATIONS = 9999
PERMUTATIONS_PER_TEST = 200  # so that the least p that Holm's correction can give is 0.005
LEVEL, POWER = 0.05, 0.8
Draws = tuple[np.ndarray, np.ndarray]  # how often each positive (b, m), negative (b, n) was drawn


class Difference(NamedTuple):
    """Candidate minus reference, its 95 % interval, two-sided p, and bootstrap standard error."""

    value: float
    low: float
    high: float
    p: float
    standard_error: float


def rank_pairs(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """(r, m), (r, n) to (m, n): in what share of r repeats the positive is higher; ties half."""
    above, below = positives[:, :, None], negatives[:, None, :]
    return ((above > below) + 0.5 * (above == below)).mean(axis=0)


def call_pairs(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """(r, m), (r, n) to (m, n): the share of the two patients that is called rightly."""
    hits, rejections = (positives > THRESHOLD).mean(axis=0), (negatives <= THRESHOLD).mean(axis=0)
    return (hits[:, None] + rejections) / 2


PAIR_SCORES = {"balanced_accuracy": call_pairs, "auroc": rank_pairs}


def score_pairs(positive: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Return by score the matrix (m, n) whose mean is the score; `probabilities` are (r, m + n)."""
    positives, negatives = probabilities[:, positive], probabilities[:, ~positive]
    return {name: pairs(positives, negatives) for name, pairs in PAIR_SCORES.items()}


def draw_patients(m: int, n: int, resamples: int, seed: int) -> Draws:
    """Draw bootstrap resamples within each class: m positives, n negatives, with replacement."""
    random = np.random.default_rng(seed)
    positives = random.multinomial(m, np.full(m, 1 / m), resamples).astype(float)
    return positives, random.multinomial(n, np.full(n, 1 / n), resamples).astype(float)


def resample(pairs: np.ndarray, draws: Draws) -> np.ndarray:
    """Return the mean over pairs (m, n) in each resample (b); each must have both classes."""
    positives, negatives = draws
    totals = np.einsum("bn,bn->b", positives @ pairs, negatives)
    return totals / (positives.sum(axis=1) * negatives.sum(axis=1))


def paired_differences(
    labels: ArrayLike, candidate: ArrayLike, reference: ArrayLike, resamples: int = RESAMPLES,
    seed: int = 0, permutations: int = PERMUTATIONS,
) -> dict[str, Difference]:  # fmt: skip
    """Return the difference in `balanced_accuracy` and `auroc`; NaN where a class is absent.

    `labels` (n) are 0 or 1; `candidate` and `reference` (r, n) or (n) are out-of-fold
    probabilities, a repeat of the cross-validation per row, in the same folds. Scores are averaged
    over repeats within each resample of patients. p is that of `permutation_test`.
    """
    positive = np.asarray(labels) == 1
    one, other = np.atleast_2d(candidate), np.atleast_2d(reference)
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
    score: str, positive: np.ndarray, candidate: np.ndarray, reference: np.ndarray,
    permutations: int = PERMUTATIONS, seed: int = 0,
) -> float:  # fmt: skip
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


def compare(
    labels: ArrayLike, models: Mapping[str, np.ndarray], reference: np.ndarray,
    resamples: int = RESAMPLES, seed: int = 0, unseen: int = 0,
) -> pd.DataFrame:  # fmt: skip
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
    labels: ArrayLike, configurations: Mapping[str, np.ndarray], resamples: int = RESAMPLES,
    seed: int = 0, reference: np.ndarray | None = None,
) -> dict[str, Best]:  # fmt: skip
    """Return by score the best of `configurations` (out-of-fold, (r, n)), corrected for the choice.

    Each bootstrap resample of patients (within class) chooses its best configuration and scores it
    on the patients left out; of ties the mean counts. The mean of these scores is the expected
    score, their 2.5 and 97.5 % quantiles the interval. `gain` is the paired difference from a
    `reference` (r, n), no candidate. NaN where a class has fewer than two patients. Careful: a
    resample chooses by 63 % of them. Tsamardinos et al. 2018, Machine Learning 107:1895 (BBC-CV).
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
        expected, gain = _expected(candidates, m, n, resamples, seed), None
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
    positives, negatives = draw_patients(m, n, resamples, seed)
    used = (positives == 0).any(axis=1) & (negatives == 0).any(axis=1)  # both classes are left out
    drawn = positives[used], negatives[used]
    rest = (drawn[0] == 0).astype(float), (drawn[1] == 0).astype(float)
    chosen_by, scored = (np.array([resample(one, by) for one in pairs]) for by in (drawn, rest))
    best = chosen_by >= chosen_by.max(axis=0) - 1e-12
    left_out = (best * scored).sum(axis=0) / best.sum(axis=0)
    low, high = map(float, np.quantile(left_out, [0.025, 0.975]))
    return Estimate(float(left_out.mean()), low, high)
