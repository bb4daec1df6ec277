"""New patients through a run's folds: the mean of their probabilities, and how far they differ."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
import yaml

from lymphoml import runs
from lymphoml.build import uses_images
from lymphoml.checkpoint import load_checkpoint, reported_checkpoint
from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.cohort import Cohort, read_cohort
from lymphoml.data.datamodule import PatientBags
from lymphoml.data.images import ImageStore, content_key, open_store
from lymphoml.errors import InputError
from lymphoml.module import BagClassifier
from lymphoml.submission import write_submission
from lymphoml.trainer import make_trainer


def predict(
    run: Path, overrides: dict[str, Any], out: Path, patients: str, header: tuple[str, str]
) -> pd.DataFrame:
    """Write `predictions.csv` and `submission.csv` into `out`, a row a patient of the cohort.

    `overrides` change the run's own `data` settings (`root`, say); `patients` is `unlabelled` or
    `all`. Columns: patient, probability (mean over folds), standard_deviation (over folds),
    label (1 where the probability is above 0.5). Raises InputError where the cohort does not fit
    the run.
    """
    config = _config(run, overrides)
    cohort = _choose(read_cohort(config["data"]), patients)
    data, ids = config["data"], list(cohort.table.index)
    store = None
    if uses_images(config["model"]):
        key = content_key(cohort.images)
        store = open_store(cohort.images, key, Path(data["cache"]), data["crop"], data["resize"])
    folds = sorted(runs.read_table(run / "folds.csv")["fold"].unique().tolist())
    columns = {}
    for fold in folds:
        path = runs.fold_folder(run, fold)
        if not runs.is_done(run, fold):
            raise InputError(f"run {run}: fold {fold} is not finished; give its command again")
        bags = _bags(path, fold, config, cohort, store, ids)
        trainer = make_trainer(config["trainer"], path, logger=False, callbacks=[])
        table = checkpoint_predictions(path, trainer, bags)
        columns[fold] = table.set_index("patient")["probability"]
    probabilities = pd.DataFrame(columns)
    mean = probabilities.mean(axis=1)
    predictions = pd.DataFrame(
        {
            "patient": ids,
            "probability": mean.loc[ids].to_numpy(),
            "standard_deviation": probabilities.std(axis=1, ddof=0).loc[ids].to_numpy(),
            "label": (mean.loc[ids] > 0.5).astype(int).to_numpy(),
        }
    )
    write_submission(predictions, ids, out / "submission.csv", header)
    runs.write_table(out / "predictions.csv", predictions)
    return predictions


def checkpoint_predictions(path: Path, trainer: pl.Trainer, bags: PatientBags) -> pd.DataFrame:
    """What a fold's reported checkpoint says of some patients: patient, probability."""
    module = BagClassifier(**_hparams(path))
    module.load_state_dict(load_checkpoint(reported_checkpoint(path))["state_dict"])
    batches: Any = trainer.predict(module, datamodule=bags, weights_only=True)
    return pd.DataFrame(
        {
            "patient": [patient for ids, _ in batches for patient in ids],
            "probability": torch.cat([values for _, values in batches]).double().numpy(),
        }
    )


def _bags(
    path: Path,
    fold: int,
    config: dict[str, Any],
    cohort: Cohort,
    store: ImageStore | None,
    ids: list[str],
) -> PatientBags:
    state = load_checkpoint(reported_checkpoint(path))["BagDataModule"]
    size = list(store.size) if store is not None else None
    for what, trained, given in (
        ("clinical columns", state["schema"], cohort.schema),
        ("image size after crop and resize", state["image_size"], size),
    ):
        if trained != given:
            raise InputError(
                f"cohort {config['data']['root']} has other {what} than {path.parent} was trained "
                f"on: {given} against {trained}; predict with the data settings of the run"
            )
    clinical = ClinicalEncoder.from_state(state["clinical"])
    return PatientBags(config["data"], cohort, store, ids, clinical, config["seed"], fold)


def _hparams(path: Path) -> dict[str, Any]:
    model = load_checkpoint(reported_checkpoint(path))["hyper_parameters"]
    # The weights come from the checkpoint: the file they once began with may be gone.
    if "encoder" in model["model"]:
        model["model"]["encoder"]["weights"] = None
    return model


def _config(run: Path, overrides: dict[str, Any]) -> dict[str, Any]:
    path = run / "config.yaml"
    if not path.exists():
        raise InputError(f"run={run}: {path} is missing; give the folder that train.py wrote")
    config = yaml.safe_load(path.read_text())
    unknown = sorted(set(overrides) - set(config["data"]))
    if unknown:
        raise InputError(
            f"data.{unknown[0]}: no such key; allowed are {', '.join(sorted(config['data']))}"
        )
    config["data"] |= overrides
    return config


def _choose(cohort: Cohort, patients: str) -> Cohort:
    if patients not in ("unlabelled", "all"):
        raise InputError(f"patients={patients}: allowed are unlabelled and all")
    chosen = cohort if patients == "all" else cohort.unlabelled
    if not len(chosen.table):
        raise InputError(
            f"cohort {cohort.name}: every patient has a label; patients=all predicts them all"
        )
    return chosen
