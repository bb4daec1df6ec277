"""Several models against a reference, on the same patients."""

from collections.abc import Mapping
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lymphoml.evaluation.pairs import SCORES
from lymphoml.evaluation.permutation_test import permutations_for
from lymphoml.evaluation.resampling import paired_differences, standard_errors

LEVEL, POWER = 0.05, 0.8


def compare(
    labels: ArrayLike,
    models: Mapping[str, np.ndarray],
    reference: np.ndarray,
    resamples: int = 2000,
    seed: int = 0,
    unseen: int = 0,
) -> pd.DataFrame:
    """A row a model and score: the difference to `reference` and how sure it is.

    `models` and `reference` are out-of-fold probabilities (r, n). Columns: `model`, `score`, those
    of `Difference`, `p_holm`, and `detectable`, of `smallest_detectable`. Holm's correction is over
    all rows: all models and both scores, which keeps the chance of any false winner among them
    below 5 %; a caller that compares strata apart has that chance in each. It is over those of
    `unseen` more models too, which were tried and are not here; the larger the family, the more
    permutations, so that the least p may still fall below 5 %.
    """
    permutations = permutations_for(len(SCORES) * (len(models) + unseen))
    rows = []
    for name, model in models.items():
        pair = (labels, model, reference)
        errors = standard_errors(*pair, resamples, seed)
        differences = paired_differences(*pair, resamples, seed, permutations)
        for score, difference in differences.items():
            detectable = smallest_detectable(errors[score])
            rows.append(
                {"model": name, "score": score, **difference._asdict(), "detectable": detectable}
            )
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p"], unseen * len(SCORES)))


def holm(p: ArrayLike, unseen: int = 0) -> np.ndarray:
    """Holm's step-down correction; a NaN stays one and is not counted as a test.

    The least of k p-values times k, the next times k - 1, never falling. Holm 1979, Scandinavian
    Journal of Statistics 6:65. (statsmodels' collects garbage at every call.) `unseen` tests, of
    which no p-value is known, count as those of the largest, 1: k is that many more.
    """
    values = np.asarray(p, dtype=float)
    told = int((~np.isnan(values)).sum())
    order = np.argsort(values)[:told]  # NaN is sorted to the end
    steps = values[order] * (unseen + np.arange(told, 0, -1))
    corrected = np.full_like(values, np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def smallest_detectable(standard_error: float, comparisons: int = 1) -> float:
    """The true difference that a cohort like this would find in 80 % of repetitions.

    (z at 1 - 0.05 / (2 comparisons) + z at 0.8) standard errors of the paired difference: as many
    patients, models that differ on as many of them as these do, a normal estimate, a two-sided 5 %
    test. With `comparisons` above 1, the first step of Holm's correction. NaN where the models do
    not differ on any patient.
    """
    if not standard_error > 0:
        return np.nan
    normal = NormalDist()
    return (normal.inv_cdf(1 - LEVEL / 2 / comparisons) + normal.inv_cdf(POWER)) * standard_error
