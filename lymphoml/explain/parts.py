"""The tables and pictures of an explanation, from the parts that each fold's model wrote."""

from pathlib import Path

import numpy as np
import pandas as pd

from lymphoml.core.files import write_csv
from lymphoml.data.image_store import ImageStore
from lymphoml.explain.pictures import draw_patient
from lymphoml.explain.tables import KEYS, LEAVE_ONE_OUT, PARTS, read_table, strongest

OF_MEASURES, OF_PATIENTS, OF_MAPS = "-measures.csv", "-patients.csv", "-maps.npz"


def join(folder: Path) -> pd.DataFrame:
    """Write the tables of all parts, mean over models and how far these differ.

    Returns that of the cells.
    """
    paths = sorted((folder / PARTS).glob("*.csv"))
    endings = {"patients": OF_PATIENTS, "measures": OF_MEASURES, "cells": ""}
    for name, ending in endings.items():
        of_kind = [each for each in paths if each.name.endswith(ending or ".csv")]
        paths = [each for each in paths if each not in of_kind]
        if of_kind:
            joined = pd.concat([read_table(each) for each in of_kind])
            table = _mean_over_models(joined, *KEYS[name])
            write_csv(folder / f"{name}.csv", table, private=True)
    return table


def draw(folder: Path, store: ImageStore, table: pd.DataFrame, pictures: int) -> None:
    """Draw of each patient the `pictures` images of largest effect, half of them for tumoral.

    By `leave_one_out` where that is given, so that a cell has a picture of each method. Mean maps
    over models.
    """
    parts = [np.load(each) for each in sorted((folder / PARTS).glob(f"*{OF_MAPS}"))]
    by_cells = table[table["method"] == LEAVE_ONE_OUT].groupby("patient")
    for (patient, method), own in table.groupby(["patient", "method"], sort=False):
        found = [each[f"{method}/{patient}"] for each in parts if f"{method}/{patient}" in each]
        if not found:
            continue
        rows = by_cells.get_group(patient) if patient in by_cells.groups else own
        names, effects = rows["image"].to_numpy(), rows["effect"].to_numpy()
        mean = dict(zip(names, np.mean(found, axis=0), strict=True))
        images = dict(zip(names, store.bag(str(patient)), strict=True))
        chosen = [name for each in strongest(effects, (pictures + 1) // 2) for name in names[each]]
        place = parts[0][method]
        draw_patient(
            folder / "pictures" / str(patient), images,
            {name: mean[name] for name in chosen[:pictures]}, str(method), (place[0], place[1]),
        )  # fmt: skip


def _mean_over_models(table: pd.DataFrame, keys: list[str], values: list[str]) -> pd.DataFrame:
    """Return means; the standard deviation is that of the first of `values`."""
    grouped = table.groupby(keys, sort=False)
    mean = grouped[values].mean()
    first = grouped[values[0]]
    mean["standard_deviation"] = first.std(ddof=0).where(first.size() > 1)
    if "error" in table:  # of sampling, not of the models
        squares = grouped["error"].agg(lambda errors: (errors**2).sum())
        mean["error"] = np.sqrt(squares) / first.size()
    return mean.assign(models=first.size()).reset_index()
