"""Classify each patient again from some of the cells, by the model that held the patient out."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from lymphoml.core.errors import InputError
from lymphoml.core.seeding import keyed_generator
from lymphoml.core.types import Batch
from lymphoml.data.cohort import load_cohort
from lymphoml.evaluation.repeatability import assess, sub_bag_sizes
from lymphoml.models.build import uses_images
from lymphoml.runs.finished_run import Run
from lymphoml.runs.fold_lock import fold_folder
from lymphoml.runs.predict import check_run, open_models
from lymphoml.runs.provenance import check_data
from lymphoml.runs.settings import TrainConfig
from lymphoml.training.lightning_module import BagClassifier
from lymphoml.training.predict_fold import load_module

Bags = Sequence[np.ndarray]  # of one patient's cells, by their places


class SubBagClassifier(BagClassifier):
    """Encodes each image once; predicts the logits (draws, bags) of what `draw` yields."""

    draw: Callable[[str], Iterator[Bags]]

    def predict_step(self, batch: Batch, batch_idx: int) -> Any:
        views: list[Any] = list(self._embed_views(batch))
        draws = []
        for bags in self.draw(batch.ids[0]):
            lengths, cells = torch.tensor([*map(len, bags)]), torch.from_numpy(np.concatenate(bags))
            own = batch.clinical.expand(len(bags), -1)
            each = [self.model.classify(view[cells], lengths, own).float() for view in views]
            draws.append(torch.stack(each).mean(dim=0))
        return torch.stack(draws).cpu()


def measure(run: Run, config: TrainConfig, draws: int, seed: int) -> dict[str, Any]:
    """Return `assess` of the first repeat; InputError: no images, or the cohort has changed."""
    if not uses_images(config.model):
        raise InputError(f"run {run.path}: its model uses no images, so no cells can be left out")
    check_run(run.path, config)
    cohort = load_cohort(config.data).labelled
    rows = run.predictions[run.repeat == 0].sort_values("patient").set_index("patient")
    images = {each: cohort.images.get(each, ())[: config.data.eval_bag_size] for each in rows.index}
    lengths = np.array([*map(len, images.values())])
    sizes = dict(zip(images, sub_bag_sizes(lengths), strict=True))

    def draw(patient: str) -> Iterator[Bags]:
        random = keyed_generator(seed, "repeatability", patient)
        for _ in range(draws):
            order = random.permutation(len(images[patient]))
            # What is wrapped, of a patient with too few cells, `assess` ignores.
            pairs = (np.take(order, range(2 * k), mode="wrap") for k in sizes[patient])
            yield [order, *(bag for pair in pairs for bag in np.split(pair, 2))]

    found: dict[str, np.ndarray] = {}
    folds = sorted({*rows["fold"]})
    for fold, checkpoint, trainer, bags, key in open_models(run.path, config, cohort, folds):
        check_data(run.path, run.environment, cohort, key, config.data.shuffle)
        bags.patients = rows.index[rows["fold"] == fold].tolist()
        module = load_module(checkpoint, fold_folder(run.path, fold), SubBagClassifier)
        module.draw = draw
        logits: Any = trainer.predict(module, datamodule=bags, weights_only=True)
        found |= zip(bags.patients, map(np.asarray, logits), strict=True)
    values = np.stack([found[patient] for patient in images]).astype(float)
    if np.isnan(values).any():
        raise InputError(f"run {run.path}: logits of fewer cells are NaN. Try a lower lr.")
    pairs = values[:, :, 1:].reshape(len(images), draws, -1, 2)
    assessed = assess(rows["label"].to_numpy(), lengths, values[:, 0, 0], pairs)
    if not assessed["sizes"]:
        raise InputError(f"run {run.path}: needs two patients of each class with two cells each")
    return {"draws": draws, "seed": seed, "patients": len(images)} | assessed
