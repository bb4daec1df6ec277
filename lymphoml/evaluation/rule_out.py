"""Rule-out thresholds from order statistics of tumoral patients' out-of-fold probabilities.

A patient is ruled out (no flow cytometry) where the probability is below the k-th smallest of n
tumoral patients that the models did not train on. If they and the next tumoral patient are
exchangeable, that one is missed with probability k / (n + 1) at most: class-conditional conformal
prediction (Vovk, Gammerman and Shafer 2005, Algorithmic Learning in a Random World). The share of
tumoral patients among new ones plays no part.
"""

from fractions import Fraction
from math import ceil, floor, log
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from scipy.stats import beta, betabinom, binom

from lymphoml.evaluation.cross_conformal import rule_out_scores
from lymphoml.evaluation.intervals import UNDEFINED, Estimate, proportion, wilson

CONFIDENCE = 0.95
RESAMPLES, SEED = 2000, 0
Count = TypeVar("Count", int, np.ndarray)


def average_rank(n: int, sensitivity: float) -> int:
    """Return the k that keeps the sensitivity on average over cohorts; 0 where n is too small."""
    return floor(_miss(sensitivity) * (n + 1))


def confident_rank(n: int, sensitivity: float) -> int:
    """Return the largest k that keeps the sensitivity in 95 % of cohorts; 0 if none.

    The share missed is Beta(k, n + 1 - k) over cohorts (Wilks 1941, Annals of Mathematical
    Statistics 12:91): the largest k with P(Binomial(n, 1 - sensitivity) < k) <= 0.05.
    """
    misses = binom(n, float(_miss(sensitivity)))
    k = int(misses.ppf(1 - CONFIDENCE))  # the smallest k of P(misses <= k) >= 0.05
    return k + int(misses.cdf(k) <= 1 - CONFIDENCE)


RANKS = {"average": average_rank, "confidence": confident_rank}


def sample_rank(n: Count, sensitivity: float) -> Count:
    """Return the k that keeps the sensitivity on these n patients themselves, ties included.

    k = floor((1 - sensitivity) n) + 1. It guarantees nothing for the next patient.
    """
    miss = _miss(sensitivity)
    return n * miss.numerator // miss.denominator + 1


def sensitivity_bound(rank: int, n: int) -> float:
    """Return the sensitivity that the threshold of `rank` keeps in 95 % of cohorts.

    The one-sided Clopper-Pearson bound for k - 1 missed of n, valid for a threshold from the same
    patients since k is fixed by n and the sensitivity alone.
    """
    return float(1 - beta.ppf(CONFIDENCE, rank, n + 1 - rank)) if rank else 1.0


def worst_average(rank: int, n: int, folds: int) -> float:
    """Return a lower bound of the average sensitivity of the rule, however models differ.

    1 - 2 k / (n + 1) - min(2 (1 - 1 / K) / (n / K + 1), (1 - K / n) / (K + 1)) for one
    cross-validation of K folds of equal size: Barber et al. 2021, Annals of Statistics 49:486,
    theorem 4. Models that agree have 1 - k / (n + 1).
    """
    if not rank:
        return 1.0
    excess = min(2 * (1 - 1 / folds) / (n / folds + 1), (1 - folds / n) / (folds + 1))
    return max(0.0, 1 - 2 * rank / (n + 1) - excess)


def chance_of_missing(
    missed: int, tumoral: int, guarantee: str, sensitivity: float, rank: int, n: int
) -> float:
    """Return the probability that so many or more of `tumoral` new patients are missed.

    That is if the promise holds of a rule of this `rank` from `n` patients. The share missed is
    1 - sensitivity where 95 % of cohorts are promised more; on average it is Beta(k, n + 1 - k)
    over cohorts that set the rule, and the number missed beta-binomial.
    """
    if not missed:
        return 1.0
    promised = binom(tumoral, float(_miss(sensitivity)))
    number = promised if guarantee == "confidence" else betabinom(tumoral, rank, n + 1 - rank)
    return float(number.sf(missed - 1))


def average_size(sensitivity: float) -> int:
    """Return the number of tumoral patients from which `average_rank` is 1."""
    return ceil(1 / _miss(sensitivity)) - 1


def confident_size(sensitivity: float) -> int:
    """Return the number from which `confident_rank` is 1: sensitivity^n <= 0.05."""
    return ceil(log(1 - CONFIDENCE) / log(sensitivity))


def held_out(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return label and mean out-of-fold score over repeats, a row per patient, sorted by id.

    `predictions` has the columns patient, fold, label, probability and perhaps outside_range; the
    score, called probability, is 1 where a model has the patient outside its training range.
    """
    rows = predictions.assign(probability=rule_out_scores(predictions))
    means = rows.groupby("patient")[["label", "probability"]].mean().astype({"label": int})
    return means.assign(probability=means["probability"].clip(upper=1))


def _miss(sensitivity: float) -> Fraction:
    """Return 1 - sensitivity, exact: 1 - 0.9 times 10 is 1, not 0.9999999999999998."""
    return 1 - Fraction(str(sensitivity))


def assess(patients: pd.DataFrame, rank: int, prevalence: float | None = None) -> dict[str, Any]:
    """Return what the threshold of `rank` does to `patients` (label, probability), for JSON.

    rank, threshold            0 and None: nobody is ruled out
    missed                     tumoral patients below it: rank - 1 but for ties, by construction
    average_sensitivity        1 - rank / (n + 1)
    sensitivity_bound          what 95 % of cohorts reach at least
    ruled_out                  reactive patients below it
    specificity                value, low, high (Wilson: reactive patients set no threshold)
    negative_predictive_value  the same, at the prevalence given; None without one
    """
    tumoral, reactive = _by_class(patients)
    limit = float(np.sort(tumoral)[rank - 1]) if rank else -np.inf
    missed, ruled_out = (int((values < limit).sum()) for values in (tumoral, reactive))
    m, n = len(tumoral), len(reactive)
    estimates = {"specificity": proportion(ruled_out, n), "negative_predictive_value": UNDEFINED}
    if prevalence is not None:
        npv = negative_predictive_value(rank, m, ruled_out, n, prevalence)
        estimates["negative_predictive_value"] = npv
    return {
        "rank": rank, "threshold": limit if rank else None, "missed": missed,
        "average_sensitivity": 1 - rank / (m + 1), "sensitivity_bound": sensitivity_bound(rank, m),
        "ruled_out": ruled_out,
        **{name: None if np.isnan(each.value) else each._asdict()
           for name, each in estimates.items()},
    }  # fmt: skip


def negative_predictive_value(
    rank: int, tumoral: int, ruled_out: int, reactive: int, prevalence: float
) -> Estimate:
    """Return the share of reactive patients among those ruled out, at a known prevalence.

        1 / (1 + prevalence / (1 - prevalence) r),  r = share missed / specificity

    The share missed is Beta(k, n + 1 - k), of mean k / (n + 1): the k - 1 counted are optimistic.
    Its quantiles and Wilson's limits are combined by square-and-add of logarithms (Zou and Donner
    2008, section 3). NaN where nobody is ruled out.
    """
    if rank == 0 or ruled_out == 0:
        return UNDEFINED
    miss_rate, specificity = rank / (tumoral + 1), ruled_out / reactive
    fewest, most = beta.ppf([0.025, 0.975], rank, tumoral + 1 - rank)
    low, high = wilson(ruled_out, reactive)
    below = np.hypot(np.log(miss_rate / fewest), np.log(high / specificity))
    above = np.hypot(np.log(most / miss_rate), np.log(specificity / low))
    odds, ratio = prevalence / (1 - prevalence), miss_rate / specificity
    ratios = ratio, ratio * np.exp(above), ratio * np.exp(-below)
    return Estimate(*(float(1 / (1 + odds * r)) for r in ratios))


def specificity_difference(patients: pd.DataFrame, baseline: pd.DataFrame, rank: int) -> Estimate:
    """Return the specificity minus a baseline's at the same rank, with a 95 % percentile interval.

    Both have the columns label, probability and the same patients in the same order. Patients are
    drawn within class, together for both, and each resample sets its own thresholds. `rank` is
    above 0: a rule that rules out nobody has no difference.
    """
    random = np.random.default_rng(SEED)
    own, other = _by_class(patients), _by_class(baseline)
    sizes = [len(values) for values in own]
    drawn = [random.integers(n, size=(RESAMPLES, n)) for n in sizes]
    every = [np.arange(n)[None] for n in sizes]

    def specificity(pair: tuple[np.ndarray, np.ndarray], rows: list[np.ndarray]) -> np.ndarray:
        limit = np.sort(pair[0][rows[0]], axis=1)[:, rank - 1]
        return (pair[1][rows[1]] < limit[:, None]).mean(axis=1)

    value, differences = (specificity(own, by) - specificity(other, by) for by in (every, drawn))
    return Estimate(float(value[0]), *map(float, np.quantile(differences, [0.025, 0.975])))


def _by_class(patients: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of tumoral and of reactive patients."""
    probability = patients["probability"].to_numpy(float)
    positive = patients["label"].to_numpy() == 1
    return probability[positive], probability[~positive]
