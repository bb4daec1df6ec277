"""The section on what moved the decisions on six patients, and how far that can be trusted."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.evaluation.metrics import THRESHOLD
from lymphoml.explain.tables import EARLIER, FOLDER, LEAVE_ONE_OUT, REGION, Explanations
from lymphoml.reports.page import Choices
from lymphoml.reports.page.cells import EXPLAIN, OF_ENSEMBLE, Cells
from lymphoml.reports.page.patients import patient_table
from lymphoml.runs.finished_run import Run

UNKNOWN = "What moved the decisions is not known yet. Find out:"
MEASURES = 6  # groups that are listed of each patient
Entry = dict[str, Any]  # value, low, high, patients
CHECKS = {"cells_deletion": "cells left out", "cells_insertion": "cells alone",
          "places_deletion": "places blurred", "places_insertion": "places sharpened"}  # fmt: skip
MODELS = ("run", "control", "untrained")
REGION_CONTROLS = ("area", "disc", "untrained", "control")
NAMES = {
    LEAVE_ONE_OUT: "without the cell", "attention": "attention", "occlusion": "occlusion",
    "grad_cam": "Grad-CAM", EARLIER: "Grad-CAM, a stage earlier",
    "run": "this run", "control": "control run", "untrained": "untrained",
    "random": "random order", "reverse": "reverse order", "centre_first": "centre first",
    "other_image": "another image's map", "mean_map": "mean map", "area": "area", "disc": "disc",
}  # fmt: skip
OF_CONTROLS = (
    "How far the logit towards the model's own call moves as cells, or places in them, go in order "
    "of their evidence, less the same in another order: above 0, the order says more than that "
    "one. Mean over patients, 95 % interval. * right by construction: no evidence."
)
OF_MODELS = (
    "The same for models that must know nothing of the disease: faithful to a model is not true."
)
OF_REGIONS = (
    "Does the network look at the cell? Share of the evidence for the model's call in the nucleus "
    "or the whole cell, less the region's share of the image, the share in a centred disc as large "
    "as the cell, and the share in other models."
)
OF_WEIGHTS = (
    "Rank correlation with the scores of the same network after all of its weights were drawn "
    "anew, and with those of another fold's model: a map that the weights do not change shows "
    "the image, not the model."
)


def evidence(
    run: Run, choices: Choices, cells: Cells | None = None, room: int = 0
) -> dict[str, Any]:
    """`room` is what the page has left for pictures, in characters; none without.

    Raises InputError where the explanations are damaged, or of the run as it was.
    """
    cells = cells or Cells(run)
    found, effects = cells.found, cells.effects
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
        pictures = cells.draw(choices, [each for _, each in chosen], room, with_maps=True)
    except InputError as error:
        pictures, missing = {}, f"No cells are shown: {error.problems[0]}"
    drawn = dict.fromkeys(method for ends in pictures.values() for pairs in ends.values()
                          for _, _, maps in pairs for method in maps)  # fmt: skip
    return {"unknown": None, "maps": [NAMES[each] for each in drawn], "patients": shown,
            "cells": pictures, "missing": missing, "names": NAMES,
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


class Table(NamedTuple):
    """Rows are a name, then an entry, or None, a column."""

    columns: Sequence[str]
    rows: list[tuple[Any, ...]]
    caption: str


def faithfulness_tables(content: dict[str, Any]) -> list[Table]:
    """Return the tables that there are numbers for.

    Raises InputError where faithfulness.json has another form.
    """
    try:
        return [table for table in _tables(content) if table.rows]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            f"{FOLDER}/faithfulness.json has another form; remove {FOLDER}, and give explain again"
        ) from None


def _tables(content: dict[str, Any]) -> Iterator[Table]:
    entries = {(each["method"], each["check"], each["model"], each["control"]): each
               for each in content.get("checks", [])}  # fmt: skip
    places = dict.fromkeys(key[:2] for key in entries)
    names = {place: f"{NAMES[place[0]]}, {CHECKS[place[1]]}" for place in places
             if place[1] in CHECKS}  # fmt: skip
    sums = {place for place in names
            if (own := entries.get((*place, "run", None))) and own["by_construction"]}  # fmt: skip
    controls = [
        each for each in dict.fromkeys(key[3] for key in entries if key[:2] in names) if each
    ]
    models = [each for each in MODELS if each in {key[2] for key in entries}]

    def found(place: tuple[str, str], keys: Iterable[tuple[str, str | None]]) -> list[Entry | None]:
        return [entries.get((*place, *key)) for key in keys]

    yield Table(
        ["Area less that of", *(NAMES[each] for each in controls)],
        [(name + " *" * (place in sums), *found(place, [("run", each) for each in controls]))
         for place, name in names.items()], OF_CONTROLS,
    )  # fmt: skip
    yield Table(
        ["Area", *(NAMES[each] for each in models)],
        [(name, *found(place, [(each, None) for each in models])) for place, name in names.items()],
        OF_MODELS,
    )
    yield Table(
        ["Evidence", "share", *(f"less {NAMES[each]}" for each in REGION_CONTROLS)],
        [(f"{NAMES[method]}, in the {check.removeprefix(REGION)}",
          *found((method, check), [("run", each) for each in (None, *REGION_CONTROLS)]))
         for method, check in places if check.startswith(REGION)], OF_REGIONS,
    )  # fmt: skip
    last = {each["method"]: each for each in content.get("randomisation", [])}
    ceiling = content.get("ceiling", {})
    yield Table(
        ["Rank correlation with", "the untrained network", "another fold's model"],
        [(NAMES[method], each, ceiling.get(method)) for method, each in last.items()], OF_WEIGHTS,
    )  # fmt: skip
