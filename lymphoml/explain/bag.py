"""A patient's bag with the model that explains it, and what each method says of its images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lymphoml.core.types import Bytes, Features
from lymphoml.data.cohort import Cohort
from lymphoml.data.datamodule import PatientBags
from lymphoml.explain import cells, maps
from lymphoml.explain.tables import ATTENTION, GRAD_CAM, LEAVE_ONE_OUT, OCCLUSION
from lymphoml.models.chunking import EVALUATION_CHUNK
from lymphoml.models.mil import MILModel
from lymphoml.runs.predict import open_models, read_model
from lymphoml.runs.provenance import check_data
from lymphoml.runs.run_folder import read_environment
from lymphoml.runs.settings import TrainConfig

Array = np.ndarray


@dataclass(frozen=True)
class Bag:
    """Images, uint8 (n 3 h w) or vectors (n d), and a model in evaluation mode."""

    patient: str
    model: MILModel
    images: Bytes | Features
    transforms: Sequence[maps.Transform]  # of each view that evaluation averages
    clinical: Float[Tensor, " k"]

    @property
    def vectors(self) -> Features:
        """Scaled feature vectors (n d), before the encoder."""
        return self.transforms[0](self.images)

    @cached_property
    @torch.no_grad()
    def views(self) -> list[Features]:
        """The features of all images, once for each view."""
        found = [self.model.embed(self.images, transform=each, chunk_size=EVALUATION_CHUNK)
                 for each in self.transforms]  # fmt: skip
        return [each for each in found if each is not None]

    @torch.no_grad()
    def logits(self, bags: Sequence[Array]) -> Float[Array, " m"]:
        """Return the logit of each of `bags`, of the images in these places: mean over views."""
        places = [torch.from_numpy(each) for each in bags]
        each = [cells.sub_bag_logits(self.model, view, self.clinical, places)
                for view in self.views]  # fmt: skip
        return torch.stack(each).mean(0).double().numpy()

    @cached_property
    def logit(self) -> float:
        return float(self.logits([np.arange(len(self.images))])[0])

    @property
    def call(self) -> int:
        """1 where the model calls the patient tumoral, else -1."""
        return 1 if self.logit > 0 else -1

    def by(self, model: MILModel) -> "Bag":
        """Return the bag as another model sees it."""
        return replace(self, model=model)


class Opened(NamedTuple):
    """A fold's model, in evaluation mode, and the bags that it can read."""

    fold: int
    model: MILModel
    bags: PatientBags
    ranges: dict[str, Any]  # of its training patients

    def images(self, patient: str) -> Tensor:
        """Return the patient's images, uint8 (n 3 h w), or feature vectors (n d)."""
        stored = torch.from_numpy(np.array(self.bags.store.bag(patient)))  # type: ignore[union-attr]
        return stored.permute(0, 3, 1, 2) if stored.ndim == 4 else stored

    def clinical(self, patient: str) -> Tensor:
        return torch.from_numpy(
            self.bags.clinical.transform(self.bags.cohort.table.loc[[patient]])
        )[0]

    def bag(self, patient: str) -> Bag:
        views = self.bags.tta_views
        return Bag(patient, self.model, self.images(patient), views, self.clinical(patient))

    def places(self, methods: Sequence[str]) -> dict[str, maps.Place]:
        """Return of each method of pixels where its maps lie: `maps.centre_and_step`."""
        store: Any = self.bags.store
        model: Any = self.model
        found: dict[str, maps.Place] = {}
        if OCCLUSION in methods:  # of its windows
            step = np.array(store.size) / 8
            found[OCCLUSION] = step - 0.5, step
        if GRAD_CAM in methods:
            found[GRAD_CAM] = maps.centre_and_step(model.encoder)
        return found


def open_folds(
    run: Path, config: TrainConfig, cohort: Cohort, folds: Sequence[int], same: bool
) -> Iterator[Opened]:
    """Yield the model of each fold with the cohort's bags.

    Raises InputError where the cohort does not fit the run; where `same`, if it has changed.
    """
    environment = read_environment(run)
    for fold, checkpoint, _, bags, key in open_models(run, config, cohort, folds):
        if same:
            check_data(run, environment, cohort, key, config.data.shuffle)
        ranges = checkpoint["BagDataModule"]["ranges"]
        yield Opened(fold, read_model(checkpoint, run, fold), bags, ranges)


def effects(
    bag: Bag, methods: Sequence[str], occluded: Sequence[int] | None = None
) -> Iterator[tuple[str, Float[Array, " n"], Float[Array, "n h w"] | None]]:
    """Yield each method, what each image does to the logit, and where in it.

    Occlusion is of all images, or of those `occluded`. No attention where the pooling has none.
    """
    inputs = bag.model, bag.images, bag.transforms[0], bag.clinical
    if LEAVE_ONE_OUT in methods:
        with torch.no_grad():
            each = [cells.leave_one_out(bag.model, view, bag.clinical) for view in bag.views]
        yield LEAVE_ONE_OUT, torch.stack(each).mean(0).numpy(), None
    if ATTENTION in methods:
        with torch.no_grad():
            of_views = [cells.attention_weights(bag.model, view) for view in bag.views]
        if weights := [each for each in of_views if each is not None]:
            yield ATTENTION, torch.stack(weights).mean(0).numpy(), None
    if OCCLUSION in methods:
        found = maps.occlusion(*inputs, occluded).numpy()
        yield OCCLUSION, found.mean((1, 2)), found
    if GRAD_CAM in methods:
        cams, strength = maps.grad_cam(*inputs)
        total = torch.where(strength > 0, cams.sum((1, 2)), torch.nan)
        yield GRAD_CAM, total.numpy(), cams.numpy()
