"""Rule-out thresholds from the order statistics of tumoral patients' probabilities.

A patient is spared flow cytometry where the probability lies below the k-th smallest of n tumoral
patients that the models did not train on. If they and the next tumoral patient are exchangeable,
the next one is missed with probability k / (n + 1) at most: class-conditional (Mondrian) conformal
prediction (Vovk, Gammerman and Shafer 2005, Algorithmic Learning in a Random World). The share of
tumoral patients among those to come plays no part.
"""

from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor, log
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import beta, binom

from lymphoml.evaluation.intervals import UNDEFINED, Estimate, proportion, wilson

CONFIDENCE = 0.95
Count = TypeVar("Count", int, np.ndarray)


def average_rank(n: int, sensitivity: float) -> int:
    """The k that keeps the sensitivity on average over draws of both cohorts; 0 where n is small.

    k = floor((1 - sensitivity) (n + 1)).
    """
    return floor(_miss(sensitivity) * (n + 1))


def confident_rank(n: int, sensitivity: float, confidence: float = CONFIDENCE) -> int:
    """The largest k whose threshold keeps the sensitivity in that share of cohorts; 0 if none.

    The share missed below the k-th smallest is Beta(k, n + 1 - k) over cohorts (Wilks 1941, Annals
    of Mathematical Statistics 12:91), so that k must have P(Binomial(n, 1 - sensitivity) < k) at
    most 1 - confidence.
    """
    # The quantile is the smallest k of P(X <= k) >= 1 - confidence.
    k = int(binom.ppf(1 - confidence, n, float(_miss(sensitivity))))
    return k + int(binom.cdf(k, n, float(_miss(sensitivity))) <= 1 - confidence)


def sample_rank(n: Count, sensitivity: float) -> Count:
    """The k whose threshold still calls that share of these n patients themselves, ties and all.

    k = floor((1 - sensitivity) n) + 1. It promises nothing of the next patient.
    """
    miss = _miss(sensitivity)
    return n * miss.numerator // miss.denominator + 1


def sensitivity_bound(rank: int, n: int, confidence: float = CONFIDENCE) -> float:
    """The sensitivity that the threshold of `rank` has at least, in that share of cohorts.

    1 - the confidence quantile of Beta(k, n + 1 - k): the one-sided Clopper-Pearson bound for
    k - 1 missed of n. It holds although the threshold was taken from the same patients, since k
    was not: it follows from n and the level asked alone.
    """
    return float(1 - beta.ppf(confidence, rank, n + 1 - rank)) if rank else 1.0


def worst_average(rank: int, n: int, folds: int) -> float:
    """The sensitivity of `below_rank` on average however models differ, in one cross-validation.

    1 - 2 k / (n + 1) - min(2 (1 - 1 / K) / (n / K + 1), (1 - K / n) / (K + 1)) with K folds of
    equal size: Barber et al. 2021, Annals of Statistics 49:486, theorem 4. In practice it is about
    1 - k / (n + 1), which holds were the models one and the same.
    """
    if not rank:
        return 1.0
    excess = min(2 * (1 - 1 / folds) / (n / folds + 1), (1 - folds / n) / (folds + 1))
    return max(0.0, 1 - 2 * rank / (n + 1) - excess)


def average_size(sensitivity: float) -> int:
    """The tumoral patients that `average_rank` needs to be 1."""
    return ceil(1 / _miss(sensitivity)) - 1


def confident_size(sensitivity: float, confidence: float = CONFIDENCE) -> int:
    """The same for `confident_rank`: sensitivity^n <= 1 - confidence."""
    return ceil(log(1 - confidence) / log(sensitivity))


def threshold(tumoral: ArrayLike, rank: int) -> float | None:
    """The `rank`-th smallest probability; None, where nobody is spared, at rank 0."""
    return float(np.sort(np.asarray(tumoral, dtype=float))[rank - 1]) if rank else None


def held_out(predictions: pd.DataFrame) -> pd.DataFrame:
    """A row a patient, sorted by id: label, and the mean over repeats of the held-out probability.

    `predictions` has the columns patient, fold, label, probability.
    """
    return predictions.groupby("patient")[["label", "probability"]].mean().astype({"label": int})


def below_rank(predictions: pd.DataFrame, new: pd.DataFrame) -> pd.Series:
    """For each new patient, how many tumoral patients are no higher, judged by the same models.

    `new` holds the probability that each fold's model (column) gives each new patient (row). A
    tumoral patient's held-out probability is compared with what the models that held that patient
    out say of the new one: their mean over repeats. A new patient is spared at a count below the
    rank.

    Where all models agree this is the threshold. Else it is cross-conformal prediction (Vovk 2015,
    Annals of Mathematics and Artificial Intelligence 74:9); see `worst_average`.
    """
    groups: dict[tuple[int, ...], list[float]] = {}  # of tumoral patients held out together
    for _, rows in predictions[predictions["label"] == 1].groupby("patient"):
        models = tuple(sorted(rows["fold"].tolist()))
        groups.setdefault(models, []).append(rows["probability"].mean())
    count = pd.Series(0, index=new.index)
    for models, values in groups.items():
        count += np.searchsorted(np.sort(values), new[list(models)].mean(axis=1), side="right")
    return count


def _miss(sensitivity: float) -> Fraction:
    """1 - sensitivity, exact: 1 - 0.9 times 10 is 1, not 0.9999999999999998."""
    return 1 - Fraction(str(sensitivity))


# What a rule-out threshold does to a cohort: who is spared, who is missed, and at what odds.

RANKS: dict[str, Callable[[int, float], int]] = {
    "average": average_rank,
    "confidence": confident_rank,
}


class Outcome(NamedTuple):
    """One threshold on the held-out patients that it was taken from."""

    rank: int  # 0: nobody is spared
    threshold: float | None
    missed: int  # tumoral patients below the threshold: rank - 1 but for ties, by construction
    average_sensitivity: float  # 1 - rank / (n + 1)
    sensitivity_bound: float  # what 95 % of cohorts reach at least
    ruled_out: int  # reactive patients below the threshold
    specificity: Estimate  # of the threshold
    negative_predictive_value: Estimate  # at the prevalence given; NaN without one


def assess(patients: pd.DataFrame, rank: int, prevalence: float | None = None) -> Outcome:
    """The threshold of `rank` on `patients`: columns label, probability, one row a patient.

    The intervals are of 95 %, for this threshold. That of the share spared is Wilson's: reactive
    patients had no part in the threshold.
    """
    tumoral, reactive = split_classes(patients)
    limit = threshold(tumoral, rank)
    missed, spared = (0, 0) if limit is None else ((x < limit).sum() for x in (tumoral, reactive))
    return Outcome(
        rank=rank,
        threshold=limit,
        missed=int(missed),
        average_sensitivity=1 - rank / (len(tumoral) + 1),
        sensitivity_bound=sensitivity_bound(rank, len(tumoral)),
        ruled_out=int(spared),
        specificity=proportion(int(spared), len(reactive)),
        negative_predictive_value=UNDEFINED
        if prevalence is None
        else negative_predictive_value(rank, len(tumoral), int(spared), len(reactive), prevalence),
    )


def negative_predictive_value(
    rank: int, tumoral: int, spared: int, reactive: int, prevalence: float
) -> Estimate:
    """The share of reactive patients among those spared, at a prevalence of tumoral ones.

        1 / (1 + prevalence / (1 - prevalence) r),  r = share missed / share spared

    The share missed below an order statistic is Beta(k, n + 1 - k), of mean k / (n + 1): the
    k - 1 counted would flatter. Its quantiles and Wilson's limits of the share spared are combined
    by square-and-add of the logarithms of both (Zou and Donner 2008, section 3). NaN where nobody
    is spared. The prevalence is taken as known.
    """
    if rank == 0 or spared == 0:
        return UNDEFINED
    share_missed, share_spared = rank / (tumoral + 1), spared / reactive
    fewest, most = beta.ppf([0.025, 0.975], rank, tumoral + 1 - rank)
    low, high = wilson(spared, reactive)
    below = np.hypot(np.log(share_missed / fewest), np.log(high / share_spared))
    above = np.hypot(np.log(most / share_missed), np.log(share_spared / low))
    odds, ratio = prevalence / (1 - prevalence), share_missed / share_spared

    def value(r: float) -> float:
        return float(1 / (1 + odds * r))

    return Estimate(value(ratio), value(ratio * np.exp(above)), value(ratio * np.exp(-below)))


def specificity_difference(
    patients: pd.DataFrame, baseline: pd.DataFrame, rank: int, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """Share of reactive patients spared, minus that of a baseline at the same rank.

    Both have the columns label, probability and the same index. Percentile bootstrap, 95 %:
    patients drawn within their class, together for both, each threshold taken anew. For equal
    models of 113 and 50 patients it covers 0.96 to 0.99. Of other folds or another training it
    says nothing. Raises ValueError where patients differ.
    """
    if not patients.index.equals(baseline.index) or (patients["label"] != baseline["label"]).any():
        raise ValueError("the baseline has other patients or labels")
    if rank == 0:
        return Estimate(0.0, 0.0, 0.0)
    random = np.random.default_rng(seed)
    pairs = [split_classes(one) for one in (patients, baseline)]
    sizes = [len(values) for values in pairs[0]]
    drawn = [random.integers(n, size=(resamples, n)) for n in sizes]
    every = [np.arange(n)[None] for n in sizes]

    def share(pair: tuple[np.ndarray, np.ndarray], rows: list[np.ndarray]) -> np.ndarray:
        limit = np.sort(pair[0][rows[0]], axis=1)[:, rank - 1]
        return (pair[1][rows[1]] < limit[:, None]).mean(axis=1)

    value, differences = (share(pairs[0], rows) - share(pairs[1], rows) for rows in (every, drawn))
    return Estimate(float(value[0]), *map(float, np.quantile(differences, [0.025, 0.975])))


def split_classes(patients: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities of tumoral and of reactive patients."""
    probability = patients["probability"].to_numpy(float)
    positive = patients["label"].to_numpy() == 1
    return probability[positive], probability[~positive]


def as_plain(outcome: Outcome) -> dict[str, Any]:
    """For JSON: dicts and plain numbers, None where undefined."""

    def plain(value: Any) -> Any:
        if isinstance(value, Estimate):
            return None if np.isnan(value.value) else value._asdict()
        return value

    return {name: plain(value) for name, value in outcome._asdict().items()}
