"""Make run folders as `train.py` leaves them, without a training."""

import hashlib
import json
from copy import deepcopy
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from lymphoml.cli.config import data_config
from lymphoml.data.cohort import load_cohort
from lymphoml.data.settings import DataConfig
from lymphoml.evaluation.metrics import score_fold
from lymphoml.evaluation.summary import summarise
from lymphoml.runs.checksums import SUMS, write_checksums

CONFIG: dict[str, Any] = {
    "seed": 0,
    "fold": "all",
    "lr": 1e-3,
    "name": "default",
    "tags": [],
    "data": {"name": "synthetic", "root": "data/synthetic", "folds": 5, "repeats": 1, "crop": 112,
             "folds_csv": None, "fold_seed": None, "inner_val_fraction": 0.0,
             "clinical": ["age", "lymphocyte_count"]},
    "model": {
        "_target_": "lymphoml.models.mil.MILModel",
        "encoder": {"_target_": "lymphoml.models.encoders.ResNet", "weights": None},
        "pooling": {"_target_": "lymphoml.models.pooling.MeanPooling"},
        "fusion": {"_target_": "lymphoml.models.fusion.ConcatFusion", "hidden": 64},
    },
    "optim": {"_target_": "torch.optim.SGD", "lr": 1e-3, "momentum": 0.9},
    "scheduler": {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.95},
    "trainer": {"max_epochs": 20},
    "logger": {"mode": "offline", "group": "lr=1e-3"},
}  # fmt: skip
ENVIRONMENT = {
    "versions": {"torch": "2.15.0", "pytorch-lightning": "2.6.6"},
    "git_commit": "0123456789abcdef",
    "data_fingerprint": "f00dfeed",
    "command": "python train.py experiment=default data=synthetic",
    "hardware": "cpu, 2 threads",
    "settings": "bf16, channels_last",
}


def config(**changes: Any) -> dict[str, Any]:
    """CONFIG with dotted keys changed: `config(**{"optim._target_": "torch.optim.Adam"})`."""
    changed = deepcopy(CONFIG)
    for key, value in changes.items():
        *groups, name = key.split(".")
        reduce(dict.__getitem__, groups, changed)[name] = value
    return changed


def make_predictions(n: int, folds: int, repeats: int, skill: float, seed: int) -> pd.DataFrame:
    """Two tumoral patients per reactive one; `skill` is the difference of the classes' logits."""
    random = np.random.default_rng(seed)
    parts = []
    for repeat in range(repeats):
        label = (np.arange(n) % 3 > 0).astype(int)
        logit = random.normal(0.4 + skill * (label - 0.5), 1.0)
        fold = repeat * folds + random.permutation(n) % folds
        columns = {"patient": [f"Zebra{i}" for i in range(n)], "fold": fold, "label": label}
        parts.append(pd.DataFrame(columns | {"probability": 1 / (1 + np.exp(-logit))}))
    return pd.concat(parts, ignore_index=True)


def make_baselines(predictions: pd.DataFrame, **skills: float) -> pd.DataFrame:
    """patient, fold and a column of probabilities per baseline, of the given skill."""
    table = predictions[["patient", "fold"]].copy()
    for seed, (name, skill) in enumerate(skills.items()):
        noise = np.random.default_rng(seed + 50).normal(0.4, 1.0, len(table))
        logit = noise + skill * (predictions["label"] - 0.5)
        table[name] = 1 / (1 + np.exp(-logit))
    return table


def make_strata(predictions: pd.DataFrame) -> pd.DataFrame:
    """patient, hard (every other pair of patients) and sex (every other patient)."""
    patients = pd.DataFrame({"patient": predictions["patient"].unique()})
    number = np.arange(len(patients))
    return patients.assign(hard=(number // 2 % 2).astype(str), sex=np.where(number % 2, "F", "M"))


def make_history(epochs: int, seed: int, last: float) -> pd.DataFrame:
    """Curves that rise towards `last`, the balanced accuracy of the last epoch."""
    random = np.random.default_rng(seed)
    epoch = np.arange(epochs)
    learnt = 1 - np.exp(-(epoch + 1) / 5)
    score = 0.5 + (last - 0.5) * learnt / learnt[-1] + random.normal(0, 0.03, epochs)
    score[-1] = last
    return pd.DataFrame({
        "epoch": epoch, "lr": 1e-3 * 0.95**epoch, "images_per_second": 60.0,
        "train/loss": 0.68 - 0.45 * learnt, "val/loss": 0.68 - 0.33 * learnt,
        "val/balanced_accuracy": score.clip(0, 1),
    })  # fmt: skip


def make_run(
    path: Path,
    config: dict[str, Any] = CONFIG,
    n: int = 90,
    epochs: int = 20,
    skill: float = 3.0,
    seed: int = 0,
    predictions: pd.DataFrame | None = None,
    histories: dict[int, pd.DataFrame] | None = None,
    baselines: pd.DataFrame | None = None,
    strata: pd.DataFrame | None = None,
) -> Path:
    """A finished run folder at `path`; tables as `make_baselines` and `make_strata` make them."""
    folds, repeats = config["data"]["folds"], config["data"]["repeats"]
    if predictions is None:
        predictions = make_predictions(n, folds, repeats, skill, seed)
    if histories is None:
        histories = {}
        for fold, rows in predictions.groupby("fold"):
            score = score_fold(rows["label"], rows["probability"])["balanced_accuracy"]
            histories[int(fold)] = make_history(epochs, seed * 100 + int(fold), last=score)
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (path / "environment.json").write_text(json.dumps(ENVIRONMENT))
    predictions[["patient", "fold"]].to_csv(path / "folds.csv", index=False)
    for fold, history in histories.items():
        folder = path / f"fold-{fold}"
        folder.mkdir()
        history.to_csv(folder / "history.csv", index=False)
        predictions[predictions["fold"] == fold].to_csv(folder / "predictions.csv", index=False)
        (folder / "done.json").write_text(json.dumps({"fold": fold, "seconds": 12.5}))
    predictions.to_csv(path / "predictions.csv", index=False)
    for name, table in (("baselines", baselines), ("strata", strata)):
        if table is not None:
            table.to_csv(path / f"{name}.csv", index=False)
    groups = None if strata is None else strata.set_index("patient")
    stratum = config["data"].get("hard_stratum") or {"max": 8.0}
    highest = None if strata is None else stratum["max"]
    metrics = summarise(predictions, histories, folds, groups, baselines, highest)
    (path / "metrics.json").write_text(json.dumps(metrics))
    list_files(path)
    return path


def list_files(run: Path) -> None:
    """Write the checksums of a run whose files a test has changed, as a run with that content."""
    for folder in run.glob("fold-*"):
        files = sorted(each.name for each in folder.iterdir() if each.is_file())
        write_checksums(folder, [name for name in files if name not in (SUMS, "done.json")])
    write_checksums(run)


def make_small_run(path: Path, n: int = 30, **changes: Any) -> Path:
    """A run of two folds and 30 patients."""
    return make_run(path, config(**{"data.folds": 2, **changes}), n=n, epochs=3)


def make_full_run(path: Path, **changes: Any) -> Path:
    """A run with all optional tables: baselines, strata, subgroups."""
    settings = config(**{"data.folds": 2, **changes})
    predictions = make_predictions(60, 2, settings["data"]["repeats"], 2.0, 0)
    baselines = make_baselines(predictions, logistic_regression=0.8, count_rule=0.5)
    return make_run(path, settings, epochs=3, predictions=predictions, baselines=baselines,
                    strata=make_strata(predictions))  # fmt: skip


def make_run_of(cohort: Path, path: Path, **changes: Any) -> Path:
    """A full run on the labelled patients of a synthetic cohort, with explanations."""
    own = {"root": str(cohort), "folds": 2, "repeats": 1, "crop": None}
    data = data_config("synthetic", own | changes).to_dict()
    settings, repeats = config(data=data), data["repeats"]
    labelled = load_cohort(DataConfig.read(data)).labelled
    predictions = make_predictions(len(labelled.table), 2, repeats, skill=2.0, seed=0)
    predictions = predictions.assign(
        patient=list(labelled.table.index) * repeats, label=list(labelled.table["label"]) * repeats
    )
    baselines = make_baselines(predictions, logistic_regression=1.0)
    make_run(path, settings, epochs=3, predictions=predictions, baselines=baselines,
             strata=make_strata(predictions))  # fmt: skip
    edit_json(path / "environment.json", data_fingerprint=labelled.fingerprint()[:16] + "0" * 16)
    list_files(path)
    make_explanations(path, labelled.images)
    return path


def make_explanations(run: Path, images: dict[str, Any]) -> None:
    """What `explain` writes of these patients' images: effects from for to against, and maps."""
    folder = run / "explanations"
    rows = [
        {"patient": patient, "image": path.name, "method": method, "effect": effect}
        for patient, paths in images.items()
        for method in ("leave_one_out", "occlusion", "grad_cam")
        for path, effect in zip(paths, np.linspace(0.4, -0.3, len(paths)).round(4), strict=True)
    ]
    patients = [{"patient": patient, "logit": 1.0, "without_for": 0.6, "without_against": 1.25}
                for patient in images]  # fmt: skip
    measures = [
        {"patient": patient, "measure": name, "contribution": value}
        for patient in images
        for name, value in {"age": -0.4, "mean area": 1.1}.items()
    ]
    for patient, paths in images.items():
        (folder / "pictures" / patient).mkdir(parents=True)
        for path in paths:
            picture = Image.effect_noise((64, 64), 60).convert("RGB")
            picture.save(folder / "pictures" / patient / f"{path.name}.grad_cam.png")
    for name, table in {"cells": rows, "patients": patients, "measures": measures}.items():
        pd.DataFrame(table).to_csv(folder / f"{name}.csv", index=False)
    digest = hashlib.sha256((run / SUMS).read_bytes()).hexdigest()
    (folder / "settings.json").write_text(json.dumps({"run": digest}))
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6, "patients": 16}
    check = estimate | {"by_construction": False, "method": "grad_cam", "check": "places_deletion"}
    faithfulness = {
        "warnings": {"grad_cam": "It shows no more than a map of the middle."},
        "checks": [check | {"model": model, "control": control} for model, control in
                   (("run", None), ("run", "random"), ("untrained", None))]
        + [check | {"model": "run", "check": "evidence_in_cell", "control": control}
           for control in (None, "area", "untrained")],
        "randomisation": [estimate | {"method": "grad_cam", "step": "conv1", "seed_spread": 0.1}],
        "ceiling": {"grad_cam": estimate | {"labelled": True}},
    }  # fmt: skip
    (folder / "faithfulness.json").write_text(json.dumps(faithfulness))


def edit_json(path: Path, **changes: Any) -> dict[str, Any]:
    """Change top-level keys of a file; return its content."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(content))
    list_files(path.parent)
    return content
