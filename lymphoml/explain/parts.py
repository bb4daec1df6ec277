"""The tables and pictures of an explanation, from the parts that each fold's model wrote."""

from pathlib import Path

import numpy as np
import pandas as pd

from lymphoml.core.files import write_csv
from lymphoml.data.cohort import Cohort
from lymphoml.data.image_store import ImageStore
from lymphoml.explain.pictures import draw_patient

PARTS = "parts"
OF_MEASURES, OF_MAPS = "-measures.csv", "-maps.npz"


def join(folder: Path) -> pd.DataFrame:
    """Write the tables of all parts: mean over models, and how far these differ."""
    paths = sorted((folder / PARTS).glob("*.csv"))
    of_measures = [_read(each) for each in paths if each.name.endswith(OF_MEASURES)]
    of_cells = [_read(each) for each in paths if not each.name.endswith(OF_MEASURES)]
    table = _mean_over_models(pd.concat(of_cells), ["patient", "image", "method"], "effect")
    write_csv(folder / "cells.csv", table)
    if of_measures:
        mean = _mean_over_models(pd.concat(of_measures), ["patient", "measure"], "contribution")
        write_csv(folder / "measures.csv", mean)
    return table


def _read(path: Path) -> pd.DataFrame:
    """Return a part; a patient or an image may be called NA."""
    text = {"patient": str, "image": str, "method": str, "measure": str}
    blank = {"effect": [""], "contribution": [""]}
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=blank)


def draw(
    folder: Path, store: ImageStore, cohort: Cohort, table: pd.DataFrame, pictures: int
) -> None:
    """Draw of each patient and method the images of largest effect, mean maps over models."""
    parts = [np.load(each) for each in sorted((folder / PARTS).glob(f"*{OF_MAPS}"))]
    for (patient, method), rows in table.groupby(["patient", "method"], sort=False):
        found = [each[f"{method}/{patient}"] for each in parts if f"{method}/{patient}" in each]
        if not found:
            continue
        names = [path.name for path in cohort.images[str(patient)]]
        mean = dict(zip(names, np.mean(found, axis=0), strict=True))
        images = dict(zip(names, store.bag(str(patient)), strict=True))
        chosen = rows.set_index("image")["effect"].abs().nlargest(pictures).index
        place = parts[0][method]
        draw_patient(
            folder / "pictures" / str(patient), images,
            {name: mean[name] for name in chosen}, str(method), (place[0], place[1]),
        )  # fmt: skip


def _mean_over_models(table: pd.DataFrame, keys: list[str], value: str) -> pd.DataFrame:
    grouped = table.groupby(keys, sort=False)[value]
    columns = {value: grouped.mean(), "standard_deviation": grouped.std(ddof=0),
               "models": grouped.size()}  # fmt: skip
    mean = pd.DataFrame(columns).reset_index()
    mean["standard_deviation"] = mean["standard_deviation"].where(mean["models"] > 1)
    return mean
