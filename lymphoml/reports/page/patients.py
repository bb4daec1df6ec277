"""The section of every patient by probability, with the cells that spoke most for and against."""

import hmac
from base64 import b32encode
from collections.abc import Sequence
from typing import Any

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.core.user_key import read_key
from lymphoml.evaluation.metrics import THRESHOLD
from lymphoml.reports.page import Choices
from lymphoml.reports.page.cells import Cells
from lymphoml.reports.page.chart import Chart, Series, count_axis, share_axis
from lymphoml.runs.finished_run import Run

MAX_LISTED = 400  # of more patients, only the ends of the list
MIN_LENGTH = 6  # letters and digits of a pseudonym, 5 bits each


def patients(
    run: Run, choices: Choices, cells: Cells | None = None, room: int = 0
) -> dict[str, Any]:
    """`room` is what the page has left for pictures, in characters.

    Raises InputError where a table of the run is corrupt.
    """
    table = listed = patient_table(run, choices.ids)
    if len(table) > MAX_LISTED:
        listed = pd.concat([table.head(MAX_LISTED // 2), table.tail(MAX_LISTED // 2)])
    cells = cells or Cells(run)  # not within the try: its error names a file
    pictures, missing = {}, None
    try:
        pictures = cells.draw(choices, [*listed.index], room)
    except InputError as error:
        missing = f"No cells are shown: {error.problems[0]}"
    return {
        "chart": _chart(table), "rows": listed.reset_index().to_dict("records"), "n": len(table),
        "ids": choices.ids, "cells": pictures, "missing": missing,
        "repeats": run.repeat.nunique(),
        "has_hard_stratum": bool(table["hard"].notna().any()),
    }  # fmt: skip


def patient_names(run: Run, ids: bool) -> dict[str, str]:
    """The id of each patient, or the pseudonym by this user's key."""
    patients = sorted(set(run.predictions["patient"]))
    return dict(zip(patients, patients, strict=True)) if ids else pseudonyms(patients, read_key())


def patient_table(run: Run, ids: bool) -> pd.DataFrame:
    """By patient, the highest mean first: place, name, probability, label, fold, hard, wrong."""
    table = run.predictions.groupby("patient").agg(
        probability=("probability", "mean"), label=("label", "first"), fold=("fold", "first")
    )
    table["probability"] = table["probability"].astype(float)
    table = table.sort_values("probability", ascending=False, kind="stable")
    table.insert(0, "place", range(1, len(table) + 1))
    table.insert(1, "name", table.index.map(patient_names(run, ids)))
    hard = run.hard_stratum()
    known = {} if hard is None else hard.to_dict()
    table["hard"] = pd.Series([known.get(p) for p in table.index], table.index, dtype=object)
    table["wrong"] = (table["probability"] > THRESHOLD) != (table["label"] == 1)
    return table


def _chart(table: pd.DataFrame) -> Chart:
    ends = [0.5, len(table) + 0.5]
    series = [Series("threshold", ends, [THRESHOLD] * 2, "muted", "dash", width=1.2)]
    hard = table[table["hard"] == True]  # noqa: E712, three values
    groups = [("hard stratum", hard, "muted", "ring", 11)] if 0 < len(hard) < len(table) else []
    for label, name, marker in ((1, "tumoral", "dot"), (0, "reactive", "square")):
        rows = table[table["label"] == label]
        groups.append((f"{name} ({len(rows)})", rows, name, marker, 7))
    for name, rows, colour, marker, size in groups:
        tooltips = [
            f"{row.name}: {row.probability:.3f}, {colour}"
            f"{', hard stratum' if row.hard else ''}, fold {row.fold}"
            for row in rows.itertuples(index=False)
            if marker != "ring"
        ]
        series.append(
            Series(name, rows["place"].tolist(), rows["probability"].round(4).tolist(), colour,
                   None, marker, size=size, tooltips=tooltips, in_legend=True)
        )  # fmt: skip
    return Chart(
        "Out-of-fold probability of each patient, in order",
        count_axis("patients, in order of probability", len(table)),
        share_axis("probability of being tumoral"), series,
        width=640, height=300, left=34, data_table=False,
    )  # fmt: skip


def pseudonyms(patients: Sequence[str], key: bytes) -> dict[str, str]:
    """A name like `P-7KQ2M4` for each patient, by a keyed digest: stable, all different."""
    keyed = {patient: hmac.digest(key, patient.encode(), "sha256") for patient in patients}
    digests = {patient: b32encode(digest).decode() for patient, digest in keyed.items()}
    length = MIN_LENGTH
    while len({digest[:length] for digest in digests.values()}) < len(digests):
        length += 1
    return {patient: f"P-{digest[:length]}" for patient, digest in digests.items()}
