"""The section on what moved the decisions on six patients, and how far that can be trusted."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import read_bytes
from lymphoml.data.decoding import ImageProblem, open_rgb
from lymphoml.evaluation.metrics import THRESHOLD
from lymphoml.explain.tables import (
    FOLDER,
    OF_PIXELS,
    Explanations,
    cell_effects,
    read_explanations,
)
from lymphoml.reports.page import Choices
from lymphoml.reports.page.faithfulness import NAMES, faithfulness_tables
from lymphoml.reports.page.patients import EXPLAIN, OF_ENSEMBLE, patient_table, strongest_cells
from lymphoml.reports.page.thumbnails import encode, thumbnails
from lymphoml.runs.finished_run import Run

UNKNOWN = "What moved the decisions is not known yet. Find out:"
MEASURES = 6  # groups that are listed of each patient
SIDE, QUALITY = 112, 70  # of a map's picture


def evidence(run: Run, choices: Choices, room: int = 0) -> dict[str, Any]:
    """`room` is what the page has left for pictures, in characters; none without.

    Raises InputError where the explanations are damaged, or of the run as it was.
    """
    found = read_explanations(run.path)
    effects = cell_effects(found)
    if found is None or effects is None:
        if run.config.get("ensemble"):
            return {"unknown": f"{OF_ENSEMBLE.capitalize()}.", "command": None}
        return {"unknown": UNKNOWN, "command": EXPLAIN}
    table = patient_table(run, choices.ids)
    chosen = choose_patients(table[table.index.isin(effects)])
    shown = [
        {"why": why, "name": row["name"], "probability": row["probability"], "label": row["label"],
         "wrong": row["wrong"], "measures": _measures(found, patient),
         **_logits(found, patient), "patient": patient}
        for why, patient in chosen for row in [table.loc[patient]]
    ]  # fmt: skip
    missing = None
    try:
        cells = _pictures(run, choices, effects, [each for _, each in chosen], room)
    except InputError as error:
        cells, missing = {}, f"No cells are shown: {error.problems[0]}"
    drawn = dict.fromkeys(method for ends in cells.values() for pairs in ends.values()
                          for _, _, maps in pairs for method in maps)  # fmt: skip
    return {"unknown": None, "maps": [NAMES[each] for each in drawn], "patients": shown,
            "cells": cells, "missing": missing, "names": NAMES,
            "warnings": found.faithfulness.get("warnings", {}),
            "tables": faithfulness_tables(found.faithfulness)}  # fmt: skip


def choose_patients(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Return reason and patient, of `patient_table`: surest, worst, and nearest to the threshold.

    Each patient once; fewer where no decision is wrong.
    """
    tumoral, reactive = (table[table["label"] == label] for label in (1, 0))
    rising = table.assign(away=(table["probability"] - THRESHOLD).abs()).sort_values(
        "away", kind="stable"
    )
    rules = [
        ("tumoral, the surest right", tumoral[~tumoral["wrong"]].index[:1]),
        ("reactive, the surest right", reactive[~reactive["wrong"]].index[::-1][:1]),
        ("tumoral, the worst wrong", tumoral[tumoral["wrong"]].index[::-1][:1]),
        ("reactive, the worst wrong", reactive[reactive["wrong"]].index[:1]),
    ]
    chosen = {str(patient): why for why, index in rules for patient in index}
    others = [str(patient) for patient in rising.index if str(patient) not in chosen]
    chosen |= dict.fromkeys(others[:2], "nearest to the threshold")
    return [(why, patient) for patient, why in chosen.items()]


def _logits(found: Explanations, patient: str) -> dict[str, Any]:
    """Return the bag's logit, and that without the shown cells, where it is known."""
    table = found.tables.get("patients")
    if table is None or not (rows := table[table["patient"] == patient]).size:
        return {"logit": None}
    values = {key: float(rows[key].iloc[0]) for key in ("logit", "without_for", "without_against")}
    return {key: None if pd.isna(value) else value for key, value in values.items()}


def _measures(found: Explanations, patient: str) -> list[tuple[str, float]]:
    """Return the groups of measures and clinical values that contribute most."""
    table = found.tables.get("measures")
    if table is None:
        return []
    rows = table[table["patient"] == patient].set_index("measure")["contribution"]
    order = rows.abs().sort_values(ascending=False, kind="stable").index[:MEASURES]
    return [(str(name).replace("_", " "), float(value)) for name, value in rows[order].items()]


def _pictures(
    run: Run, choices: Choices, effects: dict[str, pd.Series], patients: Sequence[str], room: int
) -> dict[str, Any]:
    """Return by patient and end: plain cell, effect, and its maps by method."""
    if not choices.thumbnails:
        raise InputError("thumbnails=false.")
    if run.config["data"].get("layout") == "mil_table":
        raise InputError("this cohort has feature vectors, not images.")
    ends = {patient: strongest_cells(effects[patient]) for patient in patients}
    wanted = {patient: [image for pairs in each.values() for image, _ in pairs]
              for patient, each in ends.items()}  # fmt: skip
    maps = {(patient, image): _maps(run, patient, image)
            for patient, images in wanted.items() for image in images}  # fmt: skip
    left = room - sum(len(uri) for each in maps.values() for uri in each.values())
    plain = thumbnails(run, wanted, left, whole=any(maps.values()))
    return {
        patient: {
            end: [(plain[patient, image], effect, maps[patient, image]) for image, effect in pairs]
            for end, pairs in each.items() if pairs
        }
        for patient, each in ends.items()
    }  # fmt: skip


def _maps(run: Run, patient: str, image: str) -> dict[str, str]:
    """Return a data URI of each picture that `explain` made of an image, by method."""
    found = {}
    for method in OF_PIXELS:
        path = run.path / FOLDER / "pictures" / patient / f"{image}.{method}.png"
        if not path.is_file():
            continue
        try:
            found[method] = encode(open_rgb(read_bytes(path)).image, SIDE, QUALITY)
        except (OSError, ImageProblem):
            raise InputError(f"a map of {FOLDER} cannot be read; give explain again") from None
    return found
