"""How much each field that should tell nothing of the label tells of it."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy.stats import chi2

from lymphoml.audit.findings import Finding
from lymphoml.audit.label_permutation import permutation_tests
from lymphoml.evaluation.comparison import holm
from lymphoml.evaluation.intervals import auroc_interval, delong

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
