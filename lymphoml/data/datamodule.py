"""The patients of one fold as Lightning's data module: loaders, scaling, transforms."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from lymphoml.core.seeding import keyed_seed
from lymphoml.core.signals import end_with_parent
from lymphoml.core.types import Batch
from lymphoml.data.bags import BagDataset, EpochSampler, collate, shuffled_owners
from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.cohort import Cohort
from lymphoml.data.device_store import DeviceStore
from lymphoml.data.feature_store import FeatureScaler, FeatureStore
from lymphoml.data.folds import inner_validation_split, training_split
from lymphoml.data.image_store import ImageStore
from lymphoml.data.settings import DataConfig
from lymphoml.data.training_range import fit_ranges, join_reasons, outside_ranges
from lymphoml.data.transforms import BatchTransform

# One that fails before it has workers, as without room in /dev/shm, has none to stop: torch 2.15
# prints an AttributeError behind our line.
_MultiProcessingDataLoaderIter._shutdown = True

Transform = Callable[..., Tensor]  # (images, augmentation_noise or nothing) to the encoder's input


class PatientBags(pl.LightningDataModule):
    """Bags of patients to predict: what a fold and another cohort have in common.

    `store` is None where the model uses no images; `clinical`, and `features` where the store has
    feature vectors, were fitted on the model's training patients. The LightningModule applies
    `transform` chunk by chunk: as floats a whole bag would take four times the memory.
    """

    def __init__(
        self, data: DataConfig, cohort: Cohort, store: ImageStore | FeatureStore | None,
        patients: list[str], clinical: ClinicalEncoder, seed: int, fold: int,
        features: FeatureScaler | None = None,
    ):  # fmt: skip
        super().__init__()
        self.data, self.cohort, self.store, self.patients = data, cohort, store, patients
        self.clinical, self.features = clinical, features
        self.images = BatchTransform(data.normalize_images, data.augment)
        self.keyed = keyed_seed(seed, fold)
        self.first_epoch = 0

    @property
    def transform(self) -> Transform:
        """What a batch's images, and their augmentation noise, become before the encoder."""
        return self.features or self.images

    @property
    def tta_views(self) -> list[Transform]:
        """The transforms whose logits evaluation averages: `data.eval_tta` symmetries."""
        if self.features is not None:
            return [self.features]
        return [partial(self.images, symmetry=each) for each in range(self.data.eval_tta)]

    def predict_dataloader(self) -> DataLoader:
        return self._loader(self.patients, training=False)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        if isinstance(self.store, DeviceStore):
            batch = batch._replace(images=self.store.take(batch.images))
        moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved._replace(lengths=batch.lengths)

    def _loader(self, patients: list[str], training: bool, shuffled: bool = False) -> DataLoader:
        """Batches of `data.batch_size` patients in training, of one in evaluation."""
        data, table = self.data, self.cohort.table.loc[patients]
        with_pixels = self.store is not None and self.features is None
        dataset = BagDataset(
            patients, shuffled_owners(patients, self.keyed) if shuffled else patients,
            self.clinical.transform(table), table["label"].tolist(), self.store,
            data.train_bag_size if training else data.eval_bag_size,
            training and with_pixels and self.images.random, self.keyed,
        )  # fmt: skip
        workers = 0 if isinstance(self.store, DeviceStore) else data.num_workers
        order = EpochSampler(len(patients), self.keyed, training, data.shuffle, self.first_epoch)
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return DataLoader(
            dataset, batch_size=data.batch_size if training else 1,
            sampler=order, collate_fn=collate, num_workers=workers, worker_init_fn=end_with_parent,
            persistent_workers=workers > 0, pin_memory=on_gpu,
            timeout=data.timeout if workers else 0,
        )  # fmt: skip


class BagDataModule(PatientBags):
    """One fold's patients; scaling, and ranges of `inputs`, are fitted to those in training."""

    def __init__(
        self, data: DataConfig, cohort: Cohort, store: ImageStore | FeatureStore | None,
        folds: pd.DataFrame, fold: int, seed: int, inputs: pd.DataFrame | None = None,
    ):  # fmt: skip
        self.train_patients, held_out = training_split(data, cohort.table, folds, fold, seed)
        self.inner_patients: list[str] = []
        if data.inner_val_fraction:
            table = cohort.table.loc[self.train_patients]
            inner = inner_validation_split(table, data.inner_val_fraction, seed, fold)
            self.inner_patients = sorted(inner)
            self.train_patients = sorted(set(self.train_patients) - set(self.inner_patients))
        if not data.shuffle:
            chosen = set(self.train_patients)
            self.train_patients = [each for each in cohort.in_table_order if each in chosen]
        clinical = ClinicalEncoder.fit(
            cohort.table.loc[self.train_patients], data.columns, data.clinical,
            standardize=data.standardize_clinical, missing=data.missing,
        )  # fmt: skip
        self.inputs = cohort.table[[]] if inputs is None else inputs
        self.ranges = fit_ranges(self.inputs.loc[self.train_patients], data.birth_dates)
        features = None
        if isinstance(store, FeatureStore):
            balance = data.features.balance_blocks
            features = FeatureScaler.fit(store, self.train_patients, balance)
        super().__init__(data, cohort, store, held_out, clinical, seed, fold, features)

    def training_clinical(self) -> tuple[Tensor, Tensor]:
        """Return clinical values (b k) and labels (b) of `train_patients`."""
        table = self.cohort.table.loc[self.train_patients]
        clinical = torch.from_numpy(self.clinical.transform(table))
        return clinical, torch.tensor(table["label"].tolist(), dtype=torch.float32)

    def training_bags(self) -> DataLoader:
        """Return a loader of the training patients one by one, as in evaluation."""
        return self._loader(self.train_patients, False, self.data.shuffle_bag_labels)

    def outside_range(self) -> pd.Series:
        """Return why each held-out patient is outside the training patients' ranges, "" if not."""
        return join_reasons(outside_ranges(self.inputs.loc[self.patients], self.ranges))

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.train_patients, True, self.data.shuffle_bag_labels)

    def val_dataloader(self) -> list[DataLoader]:
        """Return loaders of the held-out patients, then of the inner ones where there are any."""
        parts = [self.patients, self.inner_patients]
        return [self._loader(patients, training=False) for patients in parts if patients]

    def batch_patients(self, epoch: int, batch: int) -> list[str]:
        """Return the ids in an epoch's training batch, counted from 0; none after the last one."""
        count, shuffle = len(self.train_patients), self.data.shuffle
        order = list(EpochSampler(count, self.keyed, True, shuffle, epoch))
        first = batch * self.data.batch_size
        keys = order[first : first + self.data.batch_size]
        return [self.train_patients[position] for _, position in keys]

    def state_dict(self) -> dict[str, Any]:
        return {
            "next_epoch": 0 if self.trainer is None else self.trainer.current_epoch + 1,
            "clinical": self.clinical.state(), "ranges": self.ranges, "schema": self.cohort.schema,
            "image_size": list(self.store.size) if isinstance(self.store, ImageStore) else None,
            "features": self.features.state() if self.features else None,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.first_epoch = state["next_epoch"]
        self.clinical = ClinicalEncoder(**state["clinical"])
        self.ranges = state["ranges"]
