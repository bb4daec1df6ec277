"""How far a decision depends on which cells of a patient the model is given.

Each draw takes two disjoint sub-bags of equal size from a patient's cells, as from two smears.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from lymphoml.evaluation.intervals import Estimate, bootstrap_interval, proportion
from lymphoml.evaluation.paired import rank_pairs, resample
from lymphoml.evaluation.pooled import draw_weights
from lymphoml.evaluation.summary import to_json

SHARES = (0.1, 0.25, 0.5)  # of a patient's cells
FEW_FLIPS = 0.02  # of decisions
Array = np.ndarray


def sub_bag_sizes(lengths: Array) -> Array:
    """Return sizes (n, sizes) for patients with so many cells (n): SHARES of these, at least one;
    then 1, 2, 3, 4, 6, 8, 12, ... cells, while half of the patients have twice as many."""
    shares = np.maximum(1, np.outer(lengths, SHARES).astype(int))
    steps = sorted({each for power in range(31) for each in (1 << power, 3 << power)})
    counts = np.array([each for each in steps if each <= np.median(lengths) / 2], dtype=int)
    return np.hstack([shares, np.tile(counts, (len(lengths), 1))])


def assess(labels: Array, lengths: Array, whole: Array, logits: Array) -> dict[str, Any]:
    """Return a row per size, of the patients with twice as many cells, for JSON.

    `labels`, `lengths` (number of cells) and `whole` (logit of all cells) are (n), `logits`
    (n, draws, sizes, 2). Means over draws, 95 % intervals over patients: decisions that differ from
    that of all cells (flips) and between the two sub-bags (disagreements), ICC of their logits,
    AUROC, and minus that of all cells. `enough`: the fewest cells from which fewer than FEW_FLIPS
    flip, None where not reached.
    """
    rows: list[dict[str, Any]] = []
    shares = [*SHARES, *[None] * logits.shape[2]]  # of a count none
    for place, (share, cells) in enumerate(zip(shares, sub_bag_sizes(lengths).T, strict=False)):
        own = 2 * cells <= lengths
        if min(np.bincount(labels[own], minlength=2)) > 1:
            size = {"share": share, "cells": np.median(cells[own]), "patients": own.sum()}
            rows.append(size | _estimates(labels[own], whole[own], logits[own, :, place]))
    counts = {row["cells"]: row["flips"]["value"] for row in rows if row["share"] is None}
    enough = [n for n in counts if all(counts[k] < FEW_FLIPS for k in counts if k >= n)]
    return to_json({"sizes": rows, "enough": min(enough, default=None)})


def _estimates(labels: Array, whole: Array, pairs: Array) -> dict[str, dict[str, float]]:
    positive, called, weights = labels == 1, pairs > 0, draw_weights(labels)
    ranks, of_all = (rank_pairs(each[positive].T, each[~positive].T)
                     for each in (pairs[..., 0], whole[:, None]))  # fmt: skip

    def estimate(statistic: Callable[[Array], Array]) -> dict[str, float]:
        limits = bootstrap_interval(statistic(weights), min(np.bincount(labels)))
        return Estimate(float(statistic(np.ones((1, len(labels))))[0]), *limits)._asdict()

    def share(differs: Array) -> dict[str, float]:
        each = differs.reshape(len(labels), -1).mean(axis=1)
        found = estimate(lambda drawn: drawn @ each / drawn.sum(axis=1))
        return found if each.any() else proportion(0, len(labels))._asdict()  # whose is not empty

    def auroc(each: Array) -> dict[str, float]:
        return estimate(lambda drawn: resample(each, (drawn[:, positive], drawn[:, ~positive])))

    return {
        "flips": share(called != (whole > 0)[:, None, None]),
        "disagreements": share(called[..., 0] != called[..., 1]),
        "icc": estimate(lambda drawn: one_way_icc(pairs, drawn)),
        "auroc": auroc(ranks), "auroc_difference": auroc(ranks - of_all),
    }  # fmt: skip


def one_way_icc(pairs: Array, weights: Array) -> Array:
    """Return ICC(1, 1) of two measurements of each patient, in each resample of patients (b).

    Mean squares of `pairs` (n, draws, 2) are averaged over draws; `weights` (b, n) are how often
    each patient was drawn. Shrout and Fleiss 1979, Psychological Bulletin 86:420, case 1.
    """
    n = weights.sum(axis=1, keepdims=True)
    means, halved = pairs.mean(axis=2), np.square(pairs[..., 0] - pairs[..., 1]) / 2
    between = 2 * (weights @ means**2 - (weights @ means) ** 2 / n) / (n - 1)
    between, within = between.mean(axis=1), (weights @ halved / n).mean(axis=1)
    with np.errstate(invalid="ignore"):  # where all logits are equal
        return (between - within) / (between + within)
