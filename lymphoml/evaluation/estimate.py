"""A number and the interval that goes with it."""

from typing import NamedTuple

import numpy as np

from lymphoml.evaluation.intervals import wilson


class Estimate(NamedTuple):
    """NaN where undefined; a limit may be infinite where the sample sets none."""

    value: float
    low: float
    high: float


UNDEFINED = Estimate(np.nan, np.nan, np.nan)


def proportion(successes: float, n: int, level: float = 0.95) -> Estimate:
    """A share with Wilson's interval; NaN without observations."""
    if n == 0:
        return UNDEFINED
    return Estimate(successes / n, *wilson(successes, n, level))
