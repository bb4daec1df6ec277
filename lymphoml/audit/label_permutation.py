"""Permutation tests of many AUROCs at once, and what testing many costs."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

PERMUTATIONS = 9_999
BLOCK = 20_000_000  # labels permuted at a time


def permutation_tests(
    values: ArrayLike, labels: ArrayLike, permutations: int = PERMUTATIONS, seed: int = 0
) -> tuple[NDArray, NDArray]:
    """The p-value of each column's AUROC, and the same adjusted for having tested them all.

    `values` (n, k) may hold NaN, which counts as a middle rank; `labels` (n) are 0 or 1. Two-sided:
    the share of permutations of the labels, the data's own among them, in which a column's AUROC
    is as far from 1/2 as it is. Adjusted by the step-down maximum over the columns not yet
    rejected (Westfall and Young 1993, algorithm 4.1), each AUROC over its own standard deviation:
    Holm's procedure, taking account of columns that say the same, as brightness and colours do.
    The family-wise error is held whatever the columns' dependence, since the labels alone are
    permuted.
    """
    scores = _scores(np.asarray(values, dtype=float))
    labels = np.asarray(labels)
    observed = np.abs(labels @ scores)
    order = np.argsort(-observed)
    threshold = observed * (1 - 1e-9)  # a tie is a tie, whatever the order of a sum
    as_far, as_far_all = np.zeros(len(order)), np.zeros(len(order))
    for permuted in _permuted(labels, permutations, seed):
        drawn = np.abs(permuted @ scores)
        as_far += (drawn >= threshold).sum(axis=0)
        # The maximum over the columns from the j-th largest on.
        highest = np.maximum.accumulate(drawn[:, order[::-1]], axis=1)[:, ::-1]
        as_far_all[order] += (highest >= threshold[order]).sum(axis=0)
    p, adjusted = (1 + as_far) / (1 + permutations), (1 + as_far_all) / (1 + permutations)
    adjusted[order] = np.maximum.accumulate(adjusted[order])
    return p, adjusted


def _scores(values: NDArray) -> NDArray:
    """Centred ranks of unit length: all columns of one null variance. A constant stays 0."""
    ranks = np.full(values.shape, np.nan)
    for column in range(values.shape[1]):
        known = ~np.isnan(values[:, column])
        ranks[known, column] = rankdata(values[known, column])
        ranks[known, column] -= ranks[known, column].mean() if known.any() else 0
    ranks = np.nan_to_num(ranks)
    length = np.sqrt((ranks**2).sum(axis=0))
    return ranks / np.where(length > 0, length, 1)


def _permuted(labels: NDArray, permutations: int, seed: int) -> Iterator[NDArray]:
    generator = np.random.default_rng(seed)
    most = max(1, BLOCK // max(1, len(labels)))
    for start in range(0, permutations, most):
        rows = min(most, permutations - start)
        block = np.broadcast_to(labels.astype(np.float64), (rows, len(labels)))
        yield generator.permuted(block, axis=1)
