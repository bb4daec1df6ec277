"""Bags of handwritten digits, positive where one is a nine: which instances make them so is known.

The bags of MNIST digits of Ilse et al. 2018, with scikit-learn's digits of 8 x 8 pixels, which need
no download: 10 on average a bag, with deviation 2.
"""

from functools import partial

import numpy as np
from sklearn.datasets import load_digits

from benchmarks.poolings.bags import Array, Bags, draw_bags

TARGET = 9


def digit_bags(count: int, training: bool, seed: int) -> Bags:
    """Instances are pixels (n 64), 0 to 1. Training and test share no digit."""
    digits = load_digits()
    of_training = np.arange(len(digits.target)) % 3 > 0
    own = of_training == training
    rng = np.random.default_rng([seed, training])
    pixels, targets = digits.data[own] / 16, digits.target[own] == TARGET
    return draw_bags(count, partial(_bag, rng, pixels[targets], pixels[~targets]), rng)


def _bag(
    rng: np.random.Generator, nines: Array, others: Array, positive: bool
) -> tuple[Array, Array]:
    size = max(round(rng.normal(10, 2)), 2)
    found = int(rng.integers(1, 4)) if positive else 0
    found = min(found, size)
    rows = [nines[rng.integers(len(nines), size=found)]]
    rows.append(others[rng.integers(len(others), size=size - found)])
    return np.concatenate(rows), np.repeat([1, 0], [found, size - found])
