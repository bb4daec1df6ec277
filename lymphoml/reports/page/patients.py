"""The section of every patient by probability, with the cells that spoke most for and against."""

import hmac
from base64 import b32encode
from collections.abc import Sequence
from typing import Any

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.core.user_key import read_key
from lymphoml.evaluation.metrics import THRESHOLD
from lymphoml.explain.tables import cell_effects, read_explanations, strongest
from lymphoml.reports.page import Choices
from lymphoml.reports.page.chart import Chart, Series, count_axis, share_axis
from lymphoml.reports.page.thumbnails import thumbnails
from lymphoml.reports.run_labels import flatten
from lymphoml.runs.finished_run import Run

EXPLAIN = "python -m lymphoml explain run=RUN"
OF_ENSEMBLE = "an ensemble is not explained; see the reports of its members"
MAX_LISTED = 400  # of more patients, only the ends of the list
MIN_LENGTH = 6  # letters and digits of a pseudonym, 5 bits each


def patients(run: Run, choices: Choices, room: int = 0) -> dict[str, Any]:
    """`room` is what the page has left for pictures, in characters.

    Raises InputError where a table of the run is corrupt.
    """
    table = listed = patient_table(run, choices.ids)
    if len(table) > MAX_LISTED:
        listed = pd.concat([table.head(MAX_LISTED // 2), table.tail(MAX_LISTED // 2)])
    # Not within the try: what is wrong with a file of the run names a path or an id.
    effects = cell_effects(read_explanations(run.path)) if choices.thumbnails else None
    cells, missing = {}, None
    try:
        cells = _cells(run, choices, effects, listed.index, room)
    except InputError as error:
        missing = f"No cells are shown: {error.problems[0]}"
    return {
        "chart": _chart(table), "rows": listed.reset_index().to_dict("records"), "n": len(table),
        "ids": choices.ids, "cells": cells, "missing": missing,
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


def strongest_cells(effects: pd.Series) -> dict[str, list[tuple[str, float]]]:
    """Return image and effect of the cells that spoke most for tumoral, and most against it."""
    ends = zip(("for tumoral", "against"), strongest(effects.to_numpy()), strict=True)
    return {
        end: [(str(image), float(effect)) for image, effect in effects.iloc[places].items()]
        for end, places in ends
    }


def _cells(
    run: Run, choices: Choices, effects: dict[str, pd.Series] | None, patients: pd.Index, room: int
) -> dict[str, Any]:
    """By patient and end, pairs of picture and effect. InputError says why there are none."""
    if not choices.thumbnails:
        raise InputError("thumbnails=false.")
    if run.config["data"].get("layout") == "mil_table":
        raise InputError("this cohort has feature vectors, not images.")
    if flatten(run.config).get("model.fusion") == "ClinicalOnly":
        raise InputError("the model does not use images.")
    if run.config.get("ensemble"):
        raise InputError(OF_ENSEMBLE)
    if effects is None:
        raise InputError(f"their effects are not known; give {EXPLAIN}, then this report again.")
    chosen = {patient: strongest_cells(effects[patient]) for patient in patients
              if patient in effects}  # fmt: skip
    wanted = {
        patient: [image for pairs in ends.values() for image, _ in pairs]
        for patient, ends in chosen.items()
    }
    pictures = thumbnails(run, wanted, room)
    return {
        patient: {
            end: [(pictures[patient, image], effect) for image, effect in pairs]
            for end, pairs in ends.items()
        }
        for patient, ends in chosen.items()
    }


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
