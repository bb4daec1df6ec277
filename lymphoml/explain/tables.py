"""The files of an explanation: what they are called, hold, and how they are read back.

    cells.csv      what each image does to its patient's logit, by method
    patients.csv   by `leave_one_out`: the logit of the whole bag, and without the CELLS images of
                   largest effect for tumoral, or against it
    measures.csv   contributions of groups of measures and of clinical values
    pictures/PATIENT/IMAGE.METHOD.png

All effects are in logits, above 0 for tumoral: means over the models that explain a patient, and
their standard deviation.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from lymphoml.core.errors import InputError, one_line
from lymphoml.core.files import sha256
from lymphoml.core.untrusted import read_csv, read_mapping
from lymphoml.runs.checksums import SUMS

FOLDER, PARTS, SETTINGS = "explanations", "parts", "settings.json"
CELLS = 3  # shown for tumoral, and as many against
LEAVE_ONE_OUT, ATTENTION, OCCLUSION, GRAD_CAM = (
    "leave_one_out",
    "attention",
    "occlusion",
    "grad_cam",
)
REGION = "evidence_in_"  # how the checks of `regions` begin
EARLIER = "grad_cam_earlier"  # Grad-CAM behind the last stage but one
OF_CELLS, OF_PIXELS = (LEAVE_ONE_OUT, ATTENTION), (OCCLUSION, GRAD_CAM)
TEXTS = {"patient": str, "image": str, "method": str, "measure": str}
NUMBERS = ("effect", "contribution", "logit", "without_for", "without_against",
           "standard_deviation", "models", "value")  # fmt: skip
KEYS = {
    "cells": (["patient", "image", "method"], ["effect"]),
    "patients": (["patient"], ["logit", "without_for", "without_against"]),
    "measures": (["patient", "measure"], ["contribution"]),
}


class Explanations(NamedTuple):
    """Tables by name, those that there are, and what is known of their faithfulness."""

    tables: dict[str, pd.DataFrame]
    faithfulness: dict[str, Any]


def read_explanations(run: Path) -> Explanations | None:
    """Return what `explain` wrote into a run's folder; None where it did not finish.

    Raises InputError where it is damaged, or of the run as it was.
    """
    folder = run / FOLDER
    advice = f"remove {folder}, and give the command explain again"
    if not (folder / "cells.csv").is_file():
        return None
    settings, path = read_mapping(folder / SETTINGS, advice), folder / "faithfulness.json"
    if settings.get("run") != sha256(run / SUMS):
        raise InputError(f"{folder}: explains the run as it was before; {advice}")
    if settings.get("checks") is not None and not path.is_file():
        return None
    tables = {}
    for name, (keys, values) in KEYS.items():
        file = folder / f"{name}.csv"
        if not file.is_file():
            continue
        try:
            table = read_table(file).astype(dict.fromkeys(values, float)).dropna(subset=keys)
            tables[name] = table[[*keys, *values]]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{file} cannot be read: {one_line(error)}; {advice}") from None
    return Explanations(tables, read_mapping(path, advice) if path.is_file() else {})


def read_table(path: Path) -> pd.DataFrame:
    """Return a table as it was written; a patient or an image may be called NA."""
    blank = {name: [""] for name in NUMBERS}
    return read_csv(path, dtype=TEXTS, keep_default_na=False, na_values=blank)


def strongest(effects: Float[np.ndarray, " n"], most: int = CELLS) -> list[Int[np.ndarray, " m"]]:
    """Return the images of largest effect for tumoral, and those against it, the largest first.

    At most `most` of each, by sign: an effect of 0 or unknown is neither.
    """
    order = np.argsort(effects, kind="stable")  # NaN comes last
    in_favour = order[effects[order] > 0][::-1]
    return [in_favour[:most], order[effects[order] < 0][:most]]


def cell_effects(found: Explanations | None) -> dict[str, pd.Series] | None:
    """Return what each patient's logit loses without each image; None without `leave_one_out`."""
    if found is None:
        return None
    cells = found.tables["cells"]
    rows = cells[cells["method"] == LEAVE_ONE_OUT].set_index("image")
    if rows.empty:
        return None
    return {str(patient): each["effect"] for patient, each in rows.groupby("patient")}
