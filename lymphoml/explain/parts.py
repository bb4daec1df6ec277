"""The tables and pictures of an explanation, from the parts that each fold's model wrote."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from PIL import Image

from lymphoml.core.files import atomic_write, write_csv
from lymphoml.data.image_store import ImageStore
from lymphoml.explain.maps import Place, spread
from lymphoml.explain.tables import KEYS, LEAVE_ONE_OUT, PARTS, read_table, strongest

OF_MEASURES, OF_PATIENTS, OF_MAPS = "-measures.csv", "-patients.csv", "-maps.npz"
COLOURS, OPACITY = "RdBu_r", 0.6  # red for tumoral, blue against; faint where there is no evidence
SIDE = 224  # pixels of a picture
Array = np.ndarray


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


def draw_patient(
    folder: Path, images: Mapping[str, Array], maps: Mapping[str, Array], method: str,
    place: Place,
) -> None:  # fmt: skip
    """Write `IMAGE.METHOD.png` for the map of each image; `images` are uint8 (h, w, 3).

    A grey image under its map, whose colour is full where the patient's maps are largest. `place`
    is `centre_and_step` of the maps.
    """
    largest = max((float(np.abs(each).max()) for each in maps.values()), default=0.0)
    for name, values in maps.items():
        full = spread(values, *place, *images[name].shape[:2])
        share = np.clip(full / (largest or 1.0), -1, 1)
        colour = colormaps[COLOURS]((share + 1) / 2)[..., :3]
        grey = (images[name] / 255).mean(axis=2, keepdims=True).repeat(3, axis=2)
        opacity = OPACITY * np.abs(share)[..., None]
        mixed = 255 * ((1 - opacity) * grey + opacity * colour)
        drawn = Image.fromarray(mixed.round().astype(np.uint8))
        with atomic_write(folder / f"{name}.{method}.png", private=True) as file:
            drawn.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "PNG")
