"""Predict patients, and each of their images, with the model of one fold's checkpoint."""

from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pytorch_lightning as pl
import torch

from lymphoml.core.errors import InputError, one_line
from lymphoml.data.datamodule import PatientBags
from lymphoml.models.build import limit_size
from lymphoml.training.checkpoint_schema import check_weights
from lymphoml.training.lightning_module import BagClassifier

Module = TypeVar("Module", bound=BagClassifier)


def checkpoint_predictions(
    checkpoint: dict[str, Any], path: Path, trainer: pl.Trainer, bags: PatientBags
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return `patient, probability`, and `patient, image, probability` of each image alone.

    The second table lacks patients with only some of their images drawn. Raises InputError, with
    the fold's folder `path`, where model and weights do not fit, or a probability is NaN.
    """
    module = load_module(checkpoint, path, BagClassifier)
    batches: Any = trainer.predict(module, datamodule=bags, weights_only=True)
    patients = [patient for batch in batches for patient in batch.ids]
    probability = torch.cat([batch.bags for batch in batches]).double().numpy()
    predictions = pd.DataFrame({"patient": patients, "probability": probability})
    if missing := predictions["probability"].isna().sum():
        raise InputError(
            f"{path}: the probability of {missing} of {len(predictions)} patients is NaN, since "
            f"the training diverged. Try a lower lr in a run of another name."
        )
    rows = []
    for batch in batches:
        if not len(batch.images):
            continue
        parts = batch.images.split(batch.lengths.tolist())
        for patient, probabilities in zip(batch.ids, parts, strict=True):
            names = [path.name for path in bags.cohort.images[patient]]
            if len(names) == len(probabilities):
                pairs = zip(names, probabilities.tolist(), strict=True)
                rows += [(patient, *each) for each in pairs]
    return predictions, pd.DataFrame(rows, columns=["patient", "image", "probability"])


def load_module(checkpoint: dict[str, Any], path: Path, kind: type[Module]) -> Module:
    """Return a model of this kind with the weights of a checkpoint; InputError if they differ."""
    settings, weights = checkpoint["hyper_parameters"], checkpoint["state_dict"]
    # The checkpoint has the weights: the file that they were initialised from may be gone.
    if "weights" in settings["model"].get("encoder", {}):
        settings["model"]["encoder"]["weights"] = None
    try:
        # Twice: layers that are replaced during construction count as well.
        with limit_size(5_000_000 + 2 * sum(each.numel() for each in weights.values())):
            module = kind(**settings)
        check_weights(module, weights)
    except (InputError, ValueError) as error:
        raise InputError(
            f"{path}: the checkpoint does not fit its model ({one_line(error)}). Train the fold "
            f"again."
        ) from None
    module.load_state_dict(weights)
    return module
