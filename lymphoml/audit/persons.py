"""Records that are probably one person, and how many such pairs chance would give."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.audit.findings import Finding, count
from lymphoml.data.cohort import Cohort

HALF_YEAR = 182  # days
LABELS = {1: "tumoral", 0: "reactive", -1: "unlabelled"}


def suspected_pairs(cohort: Cohort, tables: Sequence[str], folds: int) -> list[dict[str, Any]]:
    """Return every two records of one birth date and sex: patients, labels, tables.

    `split_probability` is the chance that a stratified split into `folds` without groups separates
    them; None where they are in different tables or one is unlabelled. lymphoml's folds are
    grouped: they never do.
    """
    sizes = cohort.table["label"].value_counts()
    pairs = []
    for _, rows in cohort.table.groupby("group"):
        for a, b in combinations(rows.index, 2):
            labels = [int(rows.loc[each, "label"]) for each in (a, b)]
            places = [tables[cohort.origin.loc[each, "table"]] for each in (a, b)]
            labelled = min(labels) >= 0
            pairs.append(
                {
                    "patients": [a, b],
                    "labels": [LABELS[label] for label in labels],
                    "tables": places,
                    "same_label": labels[0] == labels[1] if labelled else None,
                    "across_tables": places[0] != places[1],
                    "split_probability": _split(labels, sizes, folds) if labelled else None,
                }
            )
    return pairs


def _split(labels: list[int], sizes: pd.Series, folds: int) -> float:
    """1 less the chance of one fold, which has room for n / k - 1 of the class's n - 1 others."""
    if labels[0] != labels[1]:
        return 1 - 1 / folds
    n = int(sizes[labels[0]])
    return min(1.0, 1 - (n / folds - 1) / (n - 1))


def coincidences(table: pd.DataFrame, ages: str, sex: str) -> float:
    """Return the number of pairs expected to share birth date and sex by chance.

    As many as pairs of one sex 1 to 182 days apart, over the 364 such days.
    """
    near = 0
    for _, rows in table.dropna(subset=[ages, sex]).groupby(sex):
        days = np.sort(np.round(rows[ages].to_numpy(float) * 365.25))
        ahead = np.searchsorted(days, days + HALF_YEAR, side="right")
        near += int((ahead - np.searchsorted(days, days, side="right")).sum())
    return near / (2 * HALF_YEAR)


def person_findings(pairs: list[dict[str, Any]], expected: float | None) -> Iterator[Finding]:
    if pairs:
        chance = "" if expected is None else f"; {expected:.2g} expected by chance"
        yield Finding(
            "warning",
            "person",
            f"{count(len(pairs), 'pair')} of records share birth date and sex{chance}",
            tuple(map(_line, pairs)),
            "ask the source; folds keep them together, train and test tables do not",
        )


def _line(pair: dict[str, Any]) -> str:
    (a, b), (label_a, label_b) = pair["patients"], pair["labels"]
    line = f"{a} ({label_a}) and {b} ({label_b})"
    if pair["across_tables"]:
        line += f": in different tables, {' and '.join(pair['tables'])}"
    if pair["split_probability"] is not None:
        line += f": ungrouped folds split them with probability {pair['split_probability']:.2f}"
    return line if pair["same_label"] is not False else f"{line}; their labels differ"
