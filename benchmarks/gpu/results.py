"""From the moments at which epochs ended to images a second, Figure 3's minutes and a table."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from lymphoml.cli.config import compose_config

SWEEP = Path(__file__).parents[2] / "sweeps" / "ablation.yaml"
LABELLED_IMAGES = 13_453  # of the challenge's 163 labelled patients
WAYS = {"loader": "with the loader", "resident": "images on the device",
        "side-by-side": "the same, {folds} folds at once"}  # fmt: skip
Ends = dict[Path, list[float]]  # history.csv of each fold: when its epochs ended


def note_epochs(run: Path, ends: Ends, now: float) -> None:
    """Add `now` for each row that a fold's history.csv has more than before."""
    for path in run.rglob("history.csv"):
        seen = ends.setdefault(path, [])
        seen += [now] * (path.read_text().count("\n") - 1 - len(seen))


def rates(cohort: Path, ends: Ends, started: float) -> dict[str, Any]:
    """Return images/s of all folds together, and the seconds until their first epochs begin.

    `training` counts steps alone; `sustained` is training images by the clock, validation and
    checkpoints included, while all folds run. Raises ValueError where they hardly did.
    """
    training, images = 0.0, {}
    for path in ends:
        table = pd.read_csv(path.parents[1] / "folds.csv", dtype={"patient": str})
        own = table[table["fold"] != int(path.parent.name.removeprefix("fold-"))]["patient"]
        images[path] = sum(len(list((cohort / "trainset" / each).iterdir())) for each in own)
        training += pd.read_csv(path)["images_per_second"][1:].median()
    firsts, lasts = ([each[i] for each in ends.values()] for i in (0, -1))
    first, last = max(firsts), min(lasts)
    if last - first <= (max(lasts) - min(firsts)) / 3:
        raise ValueError("the folds ran at the same time for less than a third: set more --epochs")
    done = sum(count * np.ptp(np.interp([first, last], ends[path], range(len(ends[path]))))
               for path, count in images.items())  # fmt: skip
    epoch = np.median(np.concatenate([np.diff(each) for each in ends.values()]))
    return {"folds": len(ends), "training": float(training),
            "sustained": float(done / (last - first)),
            "start_seconds": max(float(first - started - epoch), 0.0)}  # fmt: skip


def figure_3(training: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the size of `sweeps/ablation.yaml`, and its minutes in each way to train.

    Each image is held out once an epoch, and in training in the other folds; `sustained` contains
    validation in the same proportion. As many configurations start at once as `folds` did.
    """
    params = yaml.safe_load(SWEEP.read_text())["hydra"]["sweeper"]["params"]
    configurations = math.prod(len(values.split(",")) for values in params.values())
    config = compose_config("experiment=paper")
    passes = configurations * config.trainer.max_epochs * LABELLED_IMAGES
    images = passes * (config.data.folds - 1)
    for each in training:
        starts = configurations * each["start_seconds"] / each["folds"]
        each["figure_3_minutes"] = (images / each["sustained"] + starts) / 60
    return {"configurations": configurations, "folds": config.data.folds,
            "epochs": config.trainer.max_epochs, "training_images": images,
            "validation_images": passes}  # fmt: skip


def format_table(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = ["", ", ".join(f"{key} {value}" for key, value in (results["machine"] or {}).items())]
    lines += ["{patients} patients, {images:,} images of {size} px".format(**each)
              for each in [results["cohort"]] if each]  # fmt: skip
    lines += ["", "| experiment=paper | precision | training, images/s | with validation and "
              "checkpoints | Figure 3, minutes |", "|---|---|---|---|---|"]  # fmt: skip
    for each in results["training"]:
        row = WAYS[each["way"]] + " | {precision} | {training:,.0f} | {sustained:,.0f}"
        lines.append(f"| {row} | {{figure_3_minutes:,.1f}} |".format(**each))
    text = ("Figure 3: {configurations} configurations, {folds} folds, {epochs} epochs; "
            "{training_images:,} images in training, {validation_images:,} held out")  # fmt: skip
    lines += ["", text.format(**results["figure_3"])]
    for precision, found in (results["parity"] or {}).items():
        text = ("features within {features:.1e} (at most {at_most:.0e}), labels of {equal} of "
                "{patients} patients equal, {close} too close to 0.5 to compare")  # fmt: skip
        lines.append(f"{precision} against 32-true on the CPU: {text.format(**found)}")
    return "\n".join(lines + [f"FAILED {name}: {why}" for name, why in results["failed"].items()])
