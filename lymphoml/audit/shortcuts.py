"""Shortcut features: metadata that should not predict the label, and whether it does."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from lymphoml.audit.findings import Finding, format_auroc
from lymphoml.audit.images import CHANNELS
from lymphoml.data.cohort import Cohort
from lymphoml.evaluation.intervals import auroc_interval, delong

LUMA = [0.299, 0.587, 0.114]  # of red, green and blue, ITU-R BT.601
LEVEL = 0.05  # family-wise
MIN_CLASS_SIZE = 2  # patients: with one no permutation test can be significant
PERMUTATIONS = 9_999
BLOCK = 20_000_000  # labels permuted at a time


def shortcut_fields(cohort: Cohort, records: pd.DataFrame) -> pd.DataFrame:
    """Return a numeric column per field, indexed by patient; NaN where a patient has none.

    Brightness and colour are means over a patient's usable images. The file number is the lowest:
    any other would depend on the bag size.
    """
    patients = cohort.table.index
    fields = _categories(cohort)
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


def _categories(cohort: Cohort) -> pd.DataFrame:
    """Return date formats and site: a field for two, one for each of more; a single is constant."""
    fields = pd.DataFrame(index=cohort.table.index)
    for name in map(str, cohort.origin):
        if name.endswith(" format") or name == "site":
            written = cohort.origin[name]
            formats = sorted(written.dropna().unique())
            for each in formats if len(formats) > 2 else formats[:1]:
                title = f"site {each}" if name == "site" else f"date format ({each} in {name[:-7]})"
                fields[title] = written.eq(each).astype("float64").where(written.notna())
    return fields


def _number(name: str) -> float:
    """Return the last digits in a name; NaN without any."""
    digits = re.findall(r"[0-9]+", name)
    return float(digits[-1]) if digits else np.nan


def examine_shortcuts(
    fields: pd.DataFrame, labels: pd.Series, hard: pd.Series
) -> list[dict[str, Any]]:
    """Return a dict per field, ready for JSON; all are indexed by the same labelled patients.

    `status` is `tested`, `constant`, `absent` (no patient has a value) or `too few patients` of a
    class. Tested fields have `auroc` (above 1/2: high values mean tumoral), the same among the
    patients of the `hard` stratum, and `p` and `p_adjusted` of `permutation_tests`. A field is
    `flagged` where the second is below LEVEL.
    """
    enough = min((labels == 1).sum(), (labels == 0).sum()) >= MIN_CLASS_SIZE
    status = {
        name: ("absent", "constant", "tested" if enough else "too few patients")[min(values, 2)]
        for name, values in fields.nunique().items()
    }
    names = [name for name in fields if status[name] == "tested"]
    p, adjusted = permutation_tests(fields[names], labels)
    tested = {
        name: {
            "auroc": _auroc(fields[name], labels), "hard": _auroc(fields[name][hard], labels[hard]),
            "p": float(p[column]), "p_adjusted": float(adjusted[column]),
            "flagged": bool(adjusted[column] < LEVEL),
        }
        for column, name in enumerate(names)
    }  # fmt: skip
    untested = {"flagged": False}
    return [{"name": name, "status": status[name]} | tested.get(name, untested) for name in fields]


def _auroc(field: pd.Series, labels: pd.Series) -> dict[str, Any] | None:
    """Return the AUROC of patients with a value, its 95 % interval and their number by class."""
    present = field.notna()
    positive, scores = labels[present] == 1, field[present]
    counts = {"tumoral": int(positive.sum()), "reactive": int((~positive).sum())}
    if not all(counts.values()):
        return None
    value, variance = delong(positive, scores)
    interval = auroc_interval(value, variance, *counts.values())
    return {"value": value} | interval._asdict() | counts


def permutation_tests(
    values: ArrayLike, labels: ArrayLike, permutations: int = PERMUTATIONS, seed: int = 0
) -> tuple[NDArray, NDArray]:
    """Return the p-value of each column's AUROC, and the p-value adjusted for testing them all.

    `values` (n, k) may hold NaN, which counts as a middle rank; `labels` (n) are 0 or 1. Two-sided:
    the share of permutations of the labels, the data's own among them, in which an AUROC is as far
    from 1/2. Adjusted by the step-down maximum over columns of one null variance (max-T): like
    Holm's correction, but correlated columns cost less. Westfall and Young 1993, algorithm 4.1.
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
    """Return centred ranks of unit length: all columns have one null variance. Constants are 0."""
    ranks = pd.DataFrame(values).rank()
    centred = (ranks - ranks.mean()).fillna(0.0).to_numpy()
    length = np.sqrt((centred**2).sum(axis=0))
    return centred / np.where(length > 0, length, 1)


def _permuted(labels: NDArray, permutations: int, seed: int) -> Iterator[NDArray]:
    generator = np.random.default_rng(seed)
    most = max(1, BLOCK // max(1, len(labels)))
    for start in range(0, permutations, most):
        rows = min(most, permutations - start)
        block = np.broadcast_to(labels.astype(np.float64), (rows, len(labels)))
        yield generator.permuted(block, axis=1)


def shortcut_findings(shortcuts: list[dict[str, Any]]) -> Iterator[Finding]:
    """Yield a warning per flagged field, and a note of the fields that were not tested."""
    for field in shortcuts:
        if field["flagged"]:
            hard = format_auroc(field["hard"]) if field["hard"] else "no patients of both classes"
            what = (
                f"{field['name']} predicts the label: AUROC {format_auroc(field['auroc'])}, "
                f"adjusted p = {field['p_adjusted']:.2g}; in the hard stratum: {hard}"
            )
            action = "check that no model can use it, and find out why it does"
            if field["name"].startswith("mean "):
                action = "check whether it is the staining or scanner, or the cells themselves"
            yield Finding("warning", "shortcut", what, (), action)
    untested = [field for field in shortcuts if field["status"] != "tested"]
    if untested:
        names = "; ".join(f"{field['name']}: {field['status']}" for field in untested)
        yield Finding("note", "shortcut", f"not tested: {names}")
