"""Write a synthetic cohort as Kaggle hands out the real one, quirks included, and `truth.json`."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from lymphoml.core.errors import InputError
from lymphoml.data.synthetic import population as model
from lymphoml.data.synthetic.drawing import draw_slide, draw_smear

MIN_PATIENTS = 15  # six of them reactive: enough for five folds
SPLITS = {model.TRAIN: "trainset", model.TEST: "testset"}


def synthesize(
    out: Path, patients: int, test_patients: int, images: tuple[int, int], size: int, seed: int,
    clinical_effect: float = 1.0,
) -> dict[str, Any]:  # fmt: skip
    """Draw the cohort of these arguments into the new folder `out`. Raises InputError."""
    problems = [*_path_problems(out)]
    for key, value, valid, rule in (
        ("patients", patients, patients >= MIN_PATIENTS, f">= {MIN_PATIENTS}, for five folds"),
        ("test_patients", test_patients, test_patients >= 1, ">= 1"),
        ("images", list(images), 1 <= images[0] <= images[1], "the least, >= 1, then the most"),
        ("size", size, size >= 16, ">= 16 pixels"),
        ("seed", seed, seed >= 0, ">= 0"),
        ("clinical_effect", clinical_effect, 0 <= clinical_effect <= 1, ">= 0 and <= 1"),
    ):
        if not valid:
            problems.append(f"{key}={value}: must be {rule}")
    if problems:
        raise InputError(problems)
    population = model.POPULATION.with_clinical_effect(clinical_effect)
    drawn = {
        (split, index): model.draw_patient(images, seed, split, index, population)
        for split, number in ((model.TRAIN, patients), (model.TEST, test_patients))
        for index in range(number)
    }
    truth = {
        "seed": seed, "size": size, "images": list(images), "population": asdict(population),
        "best_balanced_accuracy": model.best_balanced_accuracy(images, population),
        "method": model.METHOD,
        "patients": {each.id: _truth(split, each) for (split, _), each in drawn.items()},
    }  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as partial:
        root = Path(partial) / "cohort"
        for (split, index), patient in drawn.items():
            folder = root / SPLITS[split] / patient.id
            _draw_bag(folder, patient, size, model.generator(seed, split, model.DRAWING, index))
        _write_tables(root, _table(drawn, seed))
        (root / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")
        os.replace(root, out)
    return truth


def _path_problems(out: Path) -> Iterator[str]:
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            yield f"out={out}: {path} is a file; name a new folder"
    if out.is_dir() and any(out.iterdir()):
        yield f"out={out}: the folder is not empty; name a new one or remove it"


def _truth(split: int, patient: model.Patient) -> dict[str, Any]:
    return {
        "split": SPLITS[split], "label": patient.label, "age": round(patient.age, 4),
        "atypical_fraction": round(patient.atypical_fraction, 4),
        "cells": patient.cells.astype(int).tolist(),  # 1 atypical; in the order of the file names
    }  # fmt: skip


def _draw_bag(folder: Path, patient: model.Patient, size: int, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    slide = draw_slide(rng)
    for number, atypical in enumerate(patient.cells):
        image = Image.fromarray(draw_smear(size, bool(atypical), slide, rng))
        image.save(folder / f"{number:06d}.jpg", quality=90)


def _table(drawn: dict[tuple[int, int], model.Patient], seed: int) -> pd.DataFrame:
    """Return the clinical table as typed by hand, its rows in random order."""
    rows = [
        {
            "ID": patient.id, "LABEL": patient.label if split == model.TRAIN else -1,
            "GENDER": patient.sex, "DOB": patient.written_date,
            "LYMPH_COUNT": patient.lymphocyte_count,
        }
        for (split, _), patient in drawn.items()
    ]  # fmt: skip
    for row in [row for row in rows if row["GENDER"] == "F"][:1]:
        row["GENDER"] = "f"
    order = model.generator(seed, model.TABLE).permutation(len(rows))
    return pd.DataFrame([rows[i] for i in order])


def _write_tables(root: Path, table: pd.DataFrame) -> None:
    table.to_csv(root / "clinical_annotation.csv")
    unlabelled = table["LABEL"] == -1
    table[~unlabelled].to_csv(root / "trainset" / "trainset_true.csv", index=False)
    table[unlabelled].to_csv(root / "testset" / "testset_data.csv", index=False)
    # Kaggle's sample names only some of the test patients, with meaningless labels.
    sample = table[unlabelled].iloc[: (2 * unlabelled.sum() + 4) // 5]
    sample[["ID"]].assign(LABEL=0).to_csv(root / "sample_submission.csv", index=False)
