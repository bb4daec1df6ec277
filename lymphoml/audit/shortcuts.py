"""How much each field that should tell nothing of the label tells of it."""

import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2, rankdata

from lymphoml.audit.images import CHANNELS
from lymphoml.audit.problems import Finding
from lymphoml.data.cohort import Cohort
from lymphoml.evaluation.intervals import auroc_interval, delong
from lymphoml.evaluation.selection import holm

# What should tell nothing of a label, and may: how a patient was filed, counted and lit.

LUMA = [0.299, 0.587, 0.114]  # of red, green and blue, ITU-R BT.601


def shortcut_fields(cohort: Cohort, records: pd.DataFrame) -> pd.DataFrame:
    """A column of numbers for each field, indexed by patient; NaN where a patient has none.

    Brightness and colour are means over a patient's usable images, each weighing the same. The
    file number is the lowest: any other would tell the bag size again.
    """
    patients = cohort.table.index
    fields = _date_formats(cohort)
    fields["row order"] = cohort.origin["row"]
    fields["bag size"] = [len(cohort.images[patient]) for patient in patients]
    fields["file number"] = [
        min((_number(path.stem) for path in cohort.images[patient]), default=np.nan)
        for patient in patients
    ]
    fields["id number"] = [_number(patient) for patient in patients]
    fields["table (train or test)"] = cohort.origin["table"]
    means = records[["patient", *CHANNELS]].astype(dict.fromkeys(CHANNELS, float))
    means = means.groupby("patient").mean().reindex(patients)
    fields["mean brightness"] = means @ np.array(LUMA)
    for channel in CHANNELS:
        fields[f"mean {channel}"] = means[channel]
    return fields.astype("float64")


def _date_formats(cohort: Cohort) -> pd.DataFrame:
    """Of two formats one field, of more a field each; one is a constant."""
    fields = pd.DataFrame(index=cohort.table.index)
    for name in map(str, cohort.origin):
        if name.endswith(" format"):
            written = cohort.origin[name]
            formats = sorted(written.dropna().unique())
            for separator in formats if len(formats) > 2 else formats[:1]:
                is_it = written.eq(separator).astype("float64")
                fields[f"date format ({separator} in {name[:-7]})"] = is_it.where(written.notna())
    return fields


def _number(name: str) -> float:
    """The last digits in a name; NaN without any."""
    digits = re.findall(r"[0-9]+", name)
    return float(digits[-1]) if digits else np.nan


# Permutation tests of many AUROCs at once, and what testing many costs.

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


LEVEL = 0.05  # family-wise
FEWEST = 2  # patients of each class: with one, no permutation test says anything


def examine_shortcuts(
    fields: pd.DataFrame, labels: pd.Series, hard: pd.Series, clinical: np.ndarray | None
) -> list[dict[str, Any]]:
    """A dict for each field, ready for JSON, all indexed by the same labelled patients.

    `status` is `tested`, `constant`, `absent` (no patient has a value) or `too few patients` of a
    class. An AUROC above 1/2 says that high values mean tumoral. `p` is the permutation p-value,
    `p_holm` Holm's correction of it over all tested fields, `p_adjusted` the correction that takes
    account of their dependence (see `permutation_tests`), and `flagged` whether that is below
    LEVEL. `hard` marks the hard stratum; `likelihood_ratio` tests the field beside the features
    `clinical` (n, k), None without any.
    """
    tested = [name for name in fields if fields[name].nunique() > 1]
    enough = min((labels == 1).sum(), (labels == 0).sum()) >= FEWEST
    told = {name: _field(fields[name], labels, hard, clinical) for name in tested if enough}
    if told:
        p, adjusted = permutation_tests(fields[tested], labels)
        for name, *values in zip(tested, p, holm(p), adjusted, strict=True):
            told[name] |= dict(
                zip(("p", "p_holm", "p_adjusted"), map(float, values), strict=True),
                flagged=bool(values[2] < LEVEL),
            )
    return [
        {"name": name, "status": "tested"} | told[name]
        if name in told
        else {"name": name, "status": _untested(fields[name]), "flagged": False}
        for name in fields
    ]


def _untested(field: pd.Series) -> str:
    if field.nunique() > 1:
        return "too few patients"
    return "constant" if field.nunique() else "absent"


def _field(
    field: pd.Series, labels: pd.Series, hard: pd.Series, clinical: np.ndarray | None
) -> dict[str, Any]:
    return {
        "auroc": _auroc(field, labels),
        "hard": _auroc(field[hard], labels[hard]),
        "likelihood_ratio": None if clinical is None else likelihood_ratio(field, labels, clinical),
    }


def _auroc(field: pd.Series, labels: pd.Series) -> dict[str, Any] | None:
    """With its 95 % interval, of the patients that have the field; None without both classes."""
    known = field.notna()
    positive, scores = labels[known] == 1, field[known]
    counts = {"tumoral": int(positive.sum()), "reactive": int((~positive).sum())}
    if not all(counts.values()):
        return None
    value, variance = delong(positive, scores)
    interval = auroc_interval(value, variance, *counts.values())
    return {"value": value} | interval._asdict() | counts


def likelihood_ratio(
    field: pd.Series, labels: pd.Series, clinical: np.ndarray
) -> dict[str, float | str]:
    """Whether the field says more than the clinical features: `statistic`, chi-square of 1 degree.

    Both logistic regressions are fitted to the patients that have the field. `reason` stands
    instead where they cannot be: the classes can be separated, or the field follows from the rest.
    """
    known = field.notna().to_numpy()
    values, target = field.to_numpy(float)[known], labels.to_numpy()[known]
    spread = values.std()
    values = (values - values.mean()) / (spread if spread > 0 else 1)
    without = _independent(np.column_stack([np.ones(known.sum()), clinical[known]]))
    both = np.column_stack([without, values])
    if np.linalg.matrix_rank(both) < both.shape[1]:
        return {"reason": "follows from the clinical values"}
    fits = [_log_likelihood(target, features) for features in (without, both)]
    if np.isnan(fits).any():
        return {"reason": "the classes can be separated"}
    statistic = max(0.0, 2 * (fits[1] - fits[0]))
    return {"statistic": statistic, "p": float(chi2.sf(statistic, 1))}


def _independent(features: np.ndarray) -> np.ndarray:
    """The columns (n, k) that do not follow from those before them."""
    kept = features[:, :0]
    for column in features.T:
        more = np.column_stack([kept, column])
        kept = more if np.linalg.matrix_rank(more) == more.shape[1] else kept
    return kept


def _log_likelihood(labels: np.ndarray, features: np.ndarray) -> float:
    """The maximum; NaN where none is attained, since some plane parts the classes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of separation, which is told below
        try:
            fit = sm.Logit(labels, features).fit(disp=False, maxiter=100)
        except (np.linalg.LinAlgError, sm.tools.sm_exceptions.PerfectSeparationError):
            return np.nan
        # Separated, coefficients grow until the steps are too small to see.
        attained = fit.mle_retvals["converged"] and np.abs(features @ fit.params).max() < 30
        return float(fit.llf) if attained else np.nan


def shortcut_findings(shortcuts: list[dict[str, Any]]) -> Iterator[Finding]:
    for told in shortcuts:
        if told["flagged"]:
            hard = told["hard"]
            inside = "no patients of both classes" if hard is None else _shown(hard)
            yield Finding(
                "warning",
                "shortcut",
                f"{told['name']} predicts the label: AUROC {_shown(told['auroc'])}, adjusted "
                f"p = {told['p_adjusted']:.2g}; in the hard stratum: {inside}",
                (),
                "see that no model can read it; a mean light may also be the cells themselves"
                if told["name"].startswith("mean ")
                else "see that no model can read it, and ask how it came about",
            )
    untested = [told for told in shortcuts if told["status"] != "tested"]
    if untested:
        names = "; ".join(f"{told['name']}: {told['status']}" for told in untested)
        yield Finding("note", "shortcut", f"not tested: {names}")


def _shown(auroc: dict[str, Any]) -> str:
    return f"{auroc['value']:.2f} [{auroc['low']:.2f}, {auroc['high']:.2f}]"
