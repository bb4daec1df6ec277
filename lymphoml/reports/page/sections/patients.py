"""Every patient by probability, with the cells that speak most for and against a tumour."""

from typing import Any

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.evaluation.metrics import THRESHOLD
from lymphoml.reports.page.chart import Chart, Series, count_axis, share_axis
from lymphoml.reports.page.choices import Choices
from lymphoml.reports.page.optional import read_hard, read_instances
from lymphoml.reports.page.pseudonyms import pseudonyms, read_key
from lymphoml.reports.page.settings import flatten
from lymphoml.reports.page.thumbnails import thumbnails
from lymphoml.runs.finished_run import Run

TITLE = "Patients"
CELLS = 3  # at either end
SHOWN = 400  # of more patients, the ends of the list alone: a page stays a page


def content(run: Run, choices: Choices, room: int = 0) -> dict[str, Any]:
    """`room` is what the page has left for pictures, in characters."""
    table = patient_table(run, choices.ids)
    listed = table
    if len(table) > SHOWN:
        listed = pd.concat([table.head(SHOWN // 2), table.tail(SHOWN // 2)])
    cells, missing = _cells(run, choices, listed.index, room)
    return {
        "chart": _chart(table),
        "rows": listed.reset_index().to_dict("records"),
        "n": len(table),
        "ids": choices.ids,
        "cells": cells,
        "missing": missing,
        "most": run.config["data"].get("eval_bag_size"),
        "repeats": run.repeat.nunique(),
        "hard_known": bool(table["hard"].notna().any()),
    }


def patient_names(run: Run, ids: bool) -> dict[str, str]:
    """Of each patient the id itself, or the pseudonym by this user's key."""
    patients = sorted(set(run.predictions["patient"]))
    return dict(zip(patients, patients, strict=True)) if ids else pseudonyms(patients, read_key())


def patient_table(run: Run, ids: bool) -> pd.DataFrame:
    """By patient, the highest probability first: place, name, probability, label, fold, hard.

    The probability is the mean over repeats. `hard` is None where the run does not tell.
    """
    table = run.predictions.groupby("patient").agg(
        probability=("probability", "mean"), label=("label", "first"), fold=("fold", "first")
    )
    table["probability"] = table["probability"].astype(float)
    table = table.sort_values("probability", ascending=False, kind="stable")
    table.insert(0, "place", range(1, len(table) + 1))
    table.insert(1, "name", table.index.map(patient_names(run, ids)))
    hard = read_hard(run)
    known = {} if hard is None else hard.to_dict()
    table["hard"] = pd.Series([known.get(p) for p in table.index], table.index, dtype=object)
    table["wrong"] = (table["probability"] > THRESHOLD) != (table["label"] == 1)
    return table


def choose_cells(instances: pd.DataFrame) -> dict[str, dict[str, list[tuple[str, float]]]]:
    """Of each patient the `most` and the `least` suspicious images; none stands in both."""
    chosen = {}
    for patient, rows in instances.groupby("patient"):
        ranked = rows.sort_values(["probability", "image"], ascending=[False, True])
        pairs = list(zip(ranked["image"], ranked["probability"], strict=True))
        chosen[str(patient)] = {"most": pairs[:CELLS], "least": pairs[CELLS:][-CELLS:]}
    return chosen


def _cells(
    run: Run, choices: Choices, patients: pd.Index, room: int
) -> tuple[dict[str, Any], str | None]:
    """Of each patient both ends' pairs of picture and probability; and why there are none."""
    if not choices.thumbnails:
        return {}, "Pictures of cells were left out, as asked: thumbnails=false."
    instances = read_instances(run)
    listed = None if instances is None else instances[instances["patient"].isin(patients)]
    if run.config["data"].get("layout") == "mil_table":
        return {}, "No cells are shown: this cohort has rows of features in place of images."
    if listed is None or listed.empty:
        return {}, f"No cells are shown: {_why_none(run, instances is None)}."
    chosen = choose_cells(listed)
    wanted = {
        patient: [image for end in ends.values() for image, _ in end]
        for patient, ends in chosen.items()
    }
    try:
        pictures = thumbnails(run, wanted, room)
    except InputError as error:
        return {}, f"No cells are shown: {error.problems[0]}"
    return {
        patient: {
            end: [(pictures[patient, image], probability) for image, probability in pairs]
            for end, pairs in ends.items()
        }
        for patient, ends in chosen.items()
    }, None


def _why_none(run: Run, untold: bool) -> str:
    """Why no model says anything of a single image; `untold` where the files are not there."""
    if flatten(run.config).get("model.fusion") == "ClinicalOnly":
        return "the model looks at no images"
    if run.config.get("ensemble"):
        return "an ensemble has no model that could look at one; its members' pages show them"
    if untold:
        return "an earlier version of lymphoml trained this run, without fold-K/instances.csv"
    if most := run.config["data"].get("eval_bag_size"):
        return f"of a patient, models saw {most} images at most (data.eval_bag_size)"
    return "the run tells nothing of single images"


def _chart(table: pd.DataFrame) -> Chart:
    ends = [0.5, len(table) + 0.5]
    series = [Series("threshold", ends, [THRESHOLD] * 2, "muted", "dash", width=1.2)]
    hard = table[table["hard"] == True]  # noqa: E712, three values
    if 0 < len(hard) < len(table):
        series.append(_marks("hard stratum", hard, "muted", "ring", 11, told=False))
    for label, name, mark in ((1, "tumoral", "dot"), (0, "reactive", "square")):
        rows = table[table["label"] == label]
        series.append(_marks(f"{name}, {len(rows)}", rows, name, mark, 7))
    return Chart(
        "patients", "Probability of each patient, in order; tumoral and reactive patients marked",
        count_axis("patients, in order of probability", len(table)),
        share_axis("probability of being tumoral"), series,
        width=640, height=300, left=34, numbers=False,
    )  # fmt: skip


def _marks(
    name: str, rows: pd.DataFrame, colour: str, mark: str, size: float, told: bool = True
) -> Series:
    return Series(
        name, rows["place"].tolist(), rows["probability"].round(4).tolist(), colour, None, mark,
        size=size, told=[_told(row) for row in rows.to_dict("records")] if told else (),
        named=True,
    )  # fmt: skip


def _told(row: dict[Any, Any]) -> str:
    label = "tumoral" if row["label"] == 1 else "reactive"
    stratum = ", hard stratum" if row["hard"] else ""
    return f"patient {row['name']}: {row['probability']:.3f}, {label}{stratum}, fold {row['fold']}"
