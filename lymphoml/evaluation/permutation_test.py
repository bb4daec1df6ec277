"""A test of "these two models are the same": each patient's two predictions may be swapped."""

import numpy as np
from scipy.stats import rankdata

from lymphoml.evaluation.pairs import SCORES

PERMUTATIONS = 9999
A_TEST = 200  # permutations, so that the least p that Holm's correction can give is 0.005


def permutations_for(tests: int) -> int:
    """Enough for a family of so many tests: Holm multiplies the least p by their number."""
    return max(PERMUTATIONS, A_TEST * tests - 1)


def swap_test(
    score: str,
    positive: np.ndarray,
    candidate: np.ndarray,
    reference: np.ndarray,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> float:
    """Two-sided p of a difference in `score` between two models (r, n), patients as units.

    A patient's predictions of all repeats change hands together. Those of the AUROC are first made
    ranks within each model and repeat: the AUROC sees ranks only, and a model whose probabilities
    are merely more extreme should not be told from the other by that. Venkatraman and Begg 1996,
    Biometrika 83:835 (ranks exchanged); Bandos, Rockette and Gur 2005, Statistics in Medicine
    24:2873 (the AUROC as statistic).

    p = (1 + swaps at least as far from 0) / (1 + permutations): never 0 (Phipson and Smyth 2010).
    Swaps are drawn PERMUTATIONS at a time, which bounds the memory.

    With s_i, t_j = -1 for a swapped positive or negative and 1 for the others, pair (i, j) tells
    (s_i + t_j) / 2 of `kept` and (s_i - t_j) / 2 of `crossed`: the candidate's i against the
    reference's j, less the reverse. So the difference is a sum over patients of sign times swing,
    and many permutations are one product of matrices.
    """
    if score == "auroc":
        candidate, reference = rankdata(candidate, axis=1), rankdata(reference, axis=1)
    pairs = SCORES[score]
    one, other = ((model[:, positive], model[:, ~positive]) for model in (candidate, reference))
    kept = pairs(one[0], one[1]) - pairs(other[0], other[1])
    crossed = pairs(one[0], other[1]) - pairs(other[0], one[1])
    of_positives = (kept + crossed).mean(axis=1) / (2 * len(kept))
    of_negatives = (kept - crossed).mean(axis=0) / (2 * kept.shape[1])
    swings = np.concatenate([of_positives, of_negatives])
    random = np.random.default_rng(seed)
    as_far = 0
    for done in range(0, permutations, PERMUTATIONS):
        shape = (min(PERMUTATIONS, permutations - done), len(swings))
        signs = 1.0 - 2.0 * random.integers(0, 2, shape, dtype=np.int8)
        as_far += int((np.abs(signs @ swings) >= abs(swings.sum()) - 1e-12).sum())
    return (1 + as_far) / (1 + permutations)
