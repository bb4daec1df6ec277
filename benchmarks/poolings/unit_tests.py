"""The algorithmic unit tests of Raff and Holt 2023.

"Reproducibility in Multiple Instance Learning: A Case For Algorithmic Unit Tests", NeurIPS 2023,
algorithms 1 to 3. Each draws training bags that are told apart in two ways: by what makes a bag
positive, and by a decoy, which is easier and must not count. In the test bags the decoy is dihedral
round. So an AUROC below 1/2 in test is that of a model that learned the decoy.

Negative instances are N(0, 1) in every dimension. What the paper leaves open is drawn as in
torchmil: 1 to 9 of them a bag (`single_concept`: 10), concepts of deviation 0.1.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.poolings.bags import Array, Bags, draw_bags

Draw = Callable[[np.random.Generator, bool, bool], tuple[Array, Array]]

DIM = 16
POISON = -10.0  # the mean of the decoy of the first two tests
CONCEPTS = (2.0, 3.0)  # the means of the two concepts, which only together make a bag positive


def single_concept(count: int, training: bool, seed: int) -> Bags:
    """Any positive instance makes a bag positive, whatever else it holds.

    A positive instance is N(0, 3) or N(1, 1). The decoy is a poison that marks the negative bags of
    training and the positive ones of the test: a model may not take it for a sign of health.
    """
    return _drawn(_single_concept, count, training, seed)


def two_concepts(count: int, training: bool, seed: int) -> Bags:
    """A bag is positive if it holds both concepts (threshold-based MIL), poisoned likewise."""
    return _drawn(_two_concepts, count, training, seed)


def false_frequency(count: int, training: bool, seed: int) -> Bags:
    """A bag is positive if it holds both concepts; how often it holds one does not count.

    The decoy is the number of concepts' instances: positive bags of training hold more of them;
    in the test negative bags hold 35 to 45 of a single concept.
    """
    return _drawn(_false_frequency, count, training, seed)


UNIT_TESTS = {
    "single_concept": single_concept,
    "two_concepts": two_concepts,
    "false_frequency": false_frequency,
}


def _drawn(draw: Draw, count: int, training: bool, seed: int) -> Bags:
    rng = np.random.default_rng([seed, training])
    return draw_bags(count, partial(draw, rng, training), rng)


def _single_concept(
    rng: np.random.Generator, training: bool, positive: bool
) -> tuple[Array, Array]:
    drawn = int(rng.integers(1, 5)) if positive else 0
    kinds = [(0, 3) if rng.random() < 0.5 else (1, 1) for _ in range(drawn)]
    found = [rng.normal(mean, deviation, DIM) for mean, deviation in kinds]
    return _bag(rng, found, negatives=10, poisoned=positive != training)


def _two_concepts(rng: np.random.Generator, training: bool, positive: bool) -> tuple[Array, Array]:
    pairs = int(rng.integers(1, 5))
    held = CONCEPTS * pairs if positive else (CONCEPTS[rng.integers(2)],)
    found = [rng.normal(mean, 0.1, DIM) for mean in held]
    return _bag(rng, found, int(rng.integers(1, 10)), poisoned=positive != training)


def _false_frequency(
    rng: np.random.Generator, training: bool, positive: bool
) -> tuple[Array, Array]:
    if positive:
        held = [mean for mean in CONCEPTS for _ in range(rng.integers(1, 3))]
    else:
        times = rng.integers(1, 3) if training else rng.integers(35, 46)
        held = [CONCEPTS[rng.integers(2)]] * int(times)
    found = [rng.normal(mean, 0.1, DIM) for mean in held]
    return _bag(rng, found, int(rng.integers(1, 10)), poisoned=False)


def _bag(
    rng: np.random.Generator, found: list[Array], negatives: int, poisoned: bool
) -> tuple[Array, Array]:
    rest = [*rng.normal(0, 1, (negatives, DIM))]
    rest += [rng.normal(POISON, 0.1, DIM)] if poisoned else []
    truth = np.repeat([1, 0], [len(found), len(rest)])
    return np.stack([*found, *rest]), truth
