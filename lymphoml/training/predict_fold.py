"""What the model of one fold says of patients, and of each of their images."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch

from lymphoml.core.errors import InputError, one_line
from lymphoml.data.cohort import Cohort
from lymphoml.data.datamodule import PatientBags
from lymphoml.models.build import limit_size
from lymphoml.training.checkpoint_schema import check_weights, numbers
from lymphoml.training.lightning_module import BagClassifier, Predicted


def checkpoint_predictions(
    checkpoint: dict[str, Any], path: Path, trainer: pl.Trainer, bags: PatientBags
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the model of a fold's checkpoint says of some patients: patient, probability.

    And what it says of each of their images: patient, image (its file's name), probability, that of
    a bag of this image alone. A patient of whom only some images were drawn is left out of this.

    Raises InputError, naming the fold's folder `path`, where a probability is not a number: the
    fold has diverged.
    """
    settings = checkpoint["hyper_parameters"]
    # The weights come from the checkpoint: the file they once began with may be gone.
    if "weights" in settings["model"].get("encoder", {}):
        settings["model"]["encoder"]["weights"] = None
    try:
        # Twice: layers that are exchanged for others on the way count as well.
        with limit_size(5_000_000 + 2 * numbers(checkpoint["state_dict"])):
            module = BagClassifier(**settings)
        check_weights(module, checkpoint["state_dict"])
    except (InputError, ValueError) as error:
        raise InputError(
            f"{path}: the checkpoint and its model do not fit ({one_line(error)}); train the fold "
            f"again"
        ) from None
    module.load_state_dict(checkpoint["state_dict"])
    batches: Any = trainer.predict(module, datamodule=bags, weights_only=True)
    predictions = pd.DataFrame(
        {
            "patient": [patient for batch in batches for patient in batch.ids],
            "probability": torch.cat([batch.bags for batch in batches]).double().numpy(),
        }
    )
    lost = predictions["probability"].isna().sum()
    if lost:
        raise InputError(
            f"{path}: no probability for {lost} of {len(predictions)} patients, the training has "
            f"diverged; try a lower lr in a run of another name"
        )
    return predictions, _of_images(batches, bags.cohort)


def _of_images(batches: Iterable[Predicted], cohort: Cohort) -> pd.DataFrame:
    parts = [pd.DataFrame({"patient": [], "image": [], "probability": []})]
    for batch in batches:
        if not len(batch.images):
            continue
        each = batch.images.double().split(batch.lengths.tolist())
        for patient, probabilities in zip(batch.ids, each, strict=True):
            names = [path.name for path in cohort.images[patient]]
            if len(names) == len(probabilities):
                columns = {"patient": patient, "image": names, "probability": probabilities}
                parts.append(pd.DataFrame(columns))
    return pd.concat(parts[1:] or parts, ignore_index=True)
