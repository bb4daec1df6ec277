"""The patients of one fold as Lightning's loaders, scaled and transformed as configured."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lymphoml.core.seeding import keyed_seed
from lymphoml.core.signals import end_with_parent
from lymphoml.core.types import Batch
from lymphoml.data.bags import BagDataset, EpochSampler, Key, collate, permuted_order
from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.cohort import Cohort
from lymphoml.data.feature_store import FeatureScaler, FeatureStore
from lymphoml.data.folds import inner_validation_split, split
from lymphoml.data.image_store import ImageStore
from lymphoml.data.transforms import BatchTransform


class PatientBags(pl.LightningDataModule):
    """Some patients to predict: what a fold and a foreign cohort have in common.

    `data` is the configuration's group of that name; `store` is None where the model looks at no
    image; `clinical`, and `rows` where the store holds rows of features, were fitted on the
    training patients of the model that predicts.
    """

    def __init__(
        self,
        data: dict[str, Any],
        cohort: Cohort,
        store: ImageStore | FeatureStore | None,
        patients: list[str],
        clinical: ClinicalEncoder,
        seed: int,
        fold: int,
        rows: FeatureScaler | None = None,
    ):
        super().__init__()
        self.data, self.cohort, self.store, self.patients = data, cohort, store, patients
        self.clinical = clinical
        self.view = rows or BatchTransform(data)
        self.keyed = keyed_seed(seed, fold)
        self.first_epoch = 0

    def predict_dataloader(self) -> DataLoader:
        return self._loader(self.patients, training=False)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved._replace(lengths=batch.lengths)

    def _loader(self, patients: list[str], training: bool, permuted: bool = False) -> DataLoader:
        """Batches of `data.batch_size` patients in training, of one in evaluation.

        One bag at a time bounds evaluation's memory, and no batch mate can change a prediction.
        """
        data, table = self.data, self.cohort.table.loc[patients]
        dataset = BagDataset(
            patients,
            permuted_order(patients, self.keyed) if permuted else patients,
            self.clinical.transform(table),
            table["label"].tolist(),
            self.store,
            data["train_bag_size"] if training else data["eval_bag_size"],
            training and self.store is not None and self.view.random,
            self.keyed,
        )
        return DataLoader(
            dataset,
            batch_size=data["batch_size"] if training else 1,
            sampler=EpochSampler(len(patients), self.keyed, training, self.first_epoch),
            collate_fn=collate,
            num_workers=data["num_workers"],
            persistent_workers=data["num_workers"] > 0,
            worker_init_fn=end_with_parent,
            timeout=data["timeout"] if data["num_workers"] else 0,
            pin_memory=self.trainer is not None
            and self.trainer.strategy.root_device.type == "cuda",
        )


class BagDataModule(PatientBags):
    """Training, validation and, if asked for, inner validation patients of one fold.

    `folds` is the table `patient, fold`. The scaling of clinical values and of rows of features is
    fitted on the fold's training patients alone, and travels in the checkpoint.
    """

    def __init__(
        self,
        data: dict[str, Any],
        cohort: Cohort,
        store: ImageStore | FeatureStore | None,
        folds: pd.DataFrame,
        fold: int,
        seed: int,
    ):
        self.train_patients, held_out = split(folds, fold, data["folds"])
        self.inner_patients: list[str] = []
        if data["inner_val_fraction"]:
            table = cohort.table.loc[self.train_patients]
            self.inner_patients = sorted(
                inner_validation_split(table, data["inner_val_fraction"], seed, fold)
            )
            self.train_patients = sorted(set(self.train_patients) - set(self.inner_patients))
        clinical = ClinicalEncoder.fit(
            cohort.table.loc[self.train_patients],
            data["columns"],
            data["clinical"],
            standardise=data["standardize_clinical"],
            missing=data["missing"],
        )
        rows = (
            FeatureScaler.fit(store, self.train_patients)
            if isinstance(store, FeatureStore)
            else None
        )
        super().__init__(data, cohort, store, held_out, clinical, seed, fold, rows)

    def training_clinical(self) -> tuple[Tensor, Tensor]:
        """Clinical values (b k) and labels (b) of the training patients, as their batches hold."""
        table = self.cohort.table.loc[self.train_patients]
        clinical = torch.from_numpy(self.clinical.transform(table))
        return clinical, torch.tensor(table["label"].tolist(), dtype=torch.float32)

    def training_bags(self) -> DataLoader:
        """The training patients one by one, as evaluation sees bags."""
        permuted = self.data["shuffle_bag_labels"]
        return self._loader(self.train_patients, training=False, permuted=permuted)

    def train_dataloader(self) -> DataLoader:
        permuted = self.data["shuffle_bag_labels"]
        return self._loader(self.train_patients, training=True, permuted=permuted)

    def batch_patients(self, epoch: int, batch: int) -> list[str]:
        """Who is in an epoch's training batch of this number, from 0; nobody after the last."""
        keys = [key for keys in self._batches(epoch)[batch : batch + 1] for key in keys]
        return [self.train_patients[position] for _, position in keys]

    def training_batches(self, epoch: int) -> Iterator[Batch]:
        """The training batches of an epoch once more, loaded by this process."""
        dataset = self.train_dataloader().dataset
        for keys in self._batches(epoch):
            yield collate([dataset[key] for key in keys])

    def _batches(self, epoch: int) -> list[list[Key]]:
        order = list(EpochSampler(len(self.train_patients), self.keyed, shuffle=True, epoch=epoch))
        size = self.data["batch_size"]
        return [order[first : first + size] for first in range(0, len(order), size)]

    def val_dataloader(self) -> list[DataLoader]:
        """The fold's held-out patients first, then the inner ones where there are any."""
        parts = [self.patients, self.inner_patients]
        return [self._loader(patients, training=False) for patients in parts if patients]

    def state_dict(self) -> dict[str, Any]:
        return {
            "next_epoch": 0 if self.trainer is None else self.trainer.current_epoch + 1,
            "clinical": self.clinical.state(),
            "schema": self.cohort.schema,
            "image_size": list(self.store.size) if isinstance(self.store, ImageStore) else None,
            "rows": self.view.state() if isinstance(self.view, FeatureScaler) else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.first_epoch = state["next_epoch"]
        self.clinical = ClinicalEncoder.from_state(state["clinical"])
