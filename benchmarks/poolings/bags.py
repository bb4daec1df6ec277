"""Bags whose truth is known, instance by instance, drawn on the spot."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray


class Bags(NamedTuple):
    """`b` bags of `n` instances in all, one bag after the other."""

    instances: Tensor  # (n, d)
    lengths: Tensor  # (b)
    label: Tensor  # (b), 1 where the bag is positive
    truth: Tensor  # (n), 1 where the instance is


def draw_bags(
    count: int, draw: Callable[[bool], tuple[Array, Array]], rng: np.random.Generator
) -> Bags:
    """`count` bags, half of them positive, in random order.

    `draw(positive)` gives the instances of a bag, a row each, and which of them are positive.
    """
    positive = rng.permutation(count) % 2 == 1
    instances, truth = zip(*(draw(bool(each)) for each in positive), strict=True)
    return Bags(
        torch.from_numpy(np.concatenate(instances)).float(),
        torch.tensor([len(bag) for bag in instances]),
        torch.from_numpy(positive).float(),
        torch.from_numpy(np.concatenate(truth)).float(),
    )
