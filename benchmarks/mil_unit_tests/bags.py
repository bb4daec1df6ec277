"""Bags with known instance labels: the unit tests of Raff and Holt 2023, and bags of digits.

"Reproducibility in Multiple Instance Learning: A Case For Algorithmic Unit Tests", NeurIPS 2023,
algorithms 1 to 3. Training bags differ in two ways: in what makes a bag positive, and in a decoy
that is easier to learn and must not count. In test bags the decoy is reversed, so an AUROC below
1/2 in test means that the model learned the decoy.

Negative instances are N(0, 1) in every dimension. What the paper leaves open is drawn as in
torchmil: 1 to 9 of them a bag (`single_concept`: 10), concepts of standard deviation 0.1.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

Array = np.ndarray
Rng = np.random.Generator

DIM = 16
POISON = -10.0  # the mean of the decoy of the first two tests
CONCEPTS = (2.0, 3.0)  # the means of the two concepts, which only together make a bag positive
TARGET_DIGIT = 9


class Bags(NamedTuple):
    """`b` bags of `n` instances in all, one bag after the other."""

    instances: Tensor  # (n, d)
    lengths: Tensor  # (b)
    label: Tensor  # (b), 1 where the bag is positive
    instance_label: Tensor  # (n), 1 where the instance is


def draw_bags(count: int, draw: Callable[[bool], tuple[Array, Array]], rng: Rng) -> Bags:
    """Return `count` bags, half of them positive, in random order.

    `draw(positive)` returns the instances of a bag and which of them are positive.
    """
    positive = rng.permutation(count) % 2 == 1
    instances, labels = zip(*(draw(bool(label)) for label in positive), strict=True)
    return Bags(
        torch.from_numpy(np.concatenate(instances)).float(),
        torch.tensor([len(bag) for bag in instances]),
        torch.from_numpy(positive).float(),
        torch.from_numpy(np.concatenate(labels)).float(),
    )


def single_concept(count: int, training: bool, seed: int) -> Bags:
    """Any positive instance makes a bag positive, whatever else the bag contains.

    A positive instance is N(0, 3) or N(1, 1). The decoy is a poison that marks the negative bags of
    training and the positive bags of the test: a model must not take it for evidence of health.
    """
    rng = np.random.default_rng([seed, training])

    def draw(positive: bool) -> tuple[Array, Array]:
        drawn = int(rng.integers(1, 5)) if positive else 0
        kinds = [(0, 3) if rng.random() < 0.5 else (1, 1) for _ in range(drawn)]
        positives = [rng.normal(mean, std, DIM) for mean, std in kinds]
        return _bag(rng, positives, negatives=10, poisoned=positive != training)

    return draw_bags(count, draw, rng)


def two_concepts(count: int, training: bool, seed: int) -> Bags:
    """A bag is positive if it contains both concepts (threshold-based MIL); poisoned likewise."""
    rng = np.random.default_rng([seed, training])

    def draw(positive: bool) -> tuple[Array, Array]:
        pairs = int(rng.integers(1, 5))
        means = CONCEPTS * pairs if positive else (CONCEPTS[rng.integers(2)],)
        positives = [rng.normal(mean, 0.1, DIM) for mean in means]
        return _bag(rng, positives, int(rng.integers(1, 10)), poisoned=positive != training)

    return draw_bags(count, draw, rng)


def false_frequency(count: int, training: bool, seed: int) -> Bags:
    """A bag is positive if it contains both concepts; how often it contains one does not count.

    The decoy is the number of concept instances: positive bags of training contain more of them; in
    the test, negative bags contain 35 to 45 of a single concept.
    """
    rng = np.random.default_rng([seed, training])

    def draw(positive: bool) -> tuple[Array, Array]:
        if positive:
            means = [mean for mean in CONCEPTS for _ in range(rng.integers(1, 3))]
        else:
            times = rng.integers(1, 3) if training else rng.integers(35, 46)
            means = [CONCEPTS[rng.integers(2)]] * int(times)
        positives = [rng.normal(mean, 0.1, DIM) for mean in means]
        return _bag(rng, positives, int(rng.integers(1, 10)), poisoned=False)

    return draw_bags(count, draw, rng)


def _bag(rng: Rng, positives: list[Array], negatives: int, poisoned: bool) -> tuple[Array, Array]:
    others = [*rng.normal(0, 1, (negatives, DIM))]
    others += [rng.normal(POISON, 0.1, DIM)] if poisoned else []
    return np.stack([*positives, *others]), np.repeat([1, 0], [len(positives), len(others)])


def digit_bags(count: int, training: bool, seed: int) -> Bags:
    """Bags of handwritten digits, positive where one is a nine; training and test share none.

    The bags of MNIST digits of Ilse et al. 2018, with scikit-learn's digits of 8 x 8 pixels: 10
    on average a bag, with standard deviation 2. Instances are pixels (n 64), 0 to 1.
    """
    digits = load_digits()
    in_split = (np.arange(len(digits.target)) % 3 > 0) == training
    pixels, targets = digits.data[in_split] / 16, digits.target[in_split] == TARGET_DIGIT
    rng = np.random.default_rng([seed, training])
    return draw_bags(count, partial(_digit_bag, rng, pixels[targets], pixels[~targets]), rng)


def _digit_bag(rng: Rng, nines: Array, others: Array, positive: bool) -> tuple[Array, Array]:
    size = max(round(rng.normal(10, 2)), 2)
    count = min(int(rng.integers(1, 4)) if positive else 0, size)
    instances = [nines[rng.integers(len(nines), size=count)]]
    instances.append(others[rng.integers(len(others), size=size - count)])
    return np.concatenate(instances), np.repeat([1, 0], [count, size - count])


UNIT_TESTS = {
    "single_concept": single_concept,
    "two_concepts": two_concepts,
    "false_frequency": false_frequency,
}
