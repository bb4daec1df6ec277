"""Bags as torch wants them: a dataset of patients, the order of an epoch, a ragged batch."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from lymphoml.core.errors import InputError
from lymphoml.core.seeding import keyed_generator
from lymphoml.core.types import Batch
from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.image_store import ImageStore
from lymphoml.data.transforms import NOISE_SIZES

Key = tuple[int, int]  # epoch, position of the patient


class Bag(NamedTuple):
    # uint8 (m, h, w, 3), or float32 (m, d); of shape (0, 1, 1, 3) where no image is wanted.
    images: np.ndarray
    clinical: np.ndarray  # float32 (k)
    label: int
    patient: str
    draws: np.ndarray | None  # float32 (m, DRAWS), uniform in [0, 1)


class BagDataset(Dataset[Bag]):
    """The bags of some patients; what `(epoch, position)` gives depends on nothing else.

    Patient i's images are those of `sources[i]`: of the patient, but in the control that permutes
    bags. `store` None loads no image. `train_bag_size` draws that many images of a larger bag,
    without replacement, anew for each epoch and patient; `augment` the numbers that change each
    image.
    """

    def __init__(
        self,
        patients: Sequence[str],
        sources: Sequence[str],
        clinical: np.ndarray,
        labels: Sequence[int],
        store: ImageStore | FeatureStore | None,
        train_bag_size: int | None,
        augment: bool,
        seed: int,
    ):
        self.patients = list(patients)
        self.sources = list(sources)
        self.clinical = clinical
        self.labels = list(labels)
        self.store = store
        self.train_bag_size = train_bag_size
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.patients)

    def __getitem__(self, key: Key) -> Bag:
        epoch, position = key
        patient = self.patients[position]
        if self.store is None:
            images = np.empty((0, 1, 1, 3), np.uint8)
        else:
            images = self.store.bag(self.sources[position])
            if self.train_bag_size is not None and len(images) > self.train_bag_size:
                draw = keyed_generator(self.seed, "instances", epoch, patient)
                images = images[np.sort(draw.permutation(len(images))[: self.train_bag_size])]
        draws = None
        if self.augment:
            draws = np.concatenate(
                [
                    keyed_generator(self.seed, key, epoch, patient).random(
                        (len(images), count), np.float32
                    )
                    for key, count in NOISE_SIZES.items()
                ],
                axis=1,
            )
        return Bag(images, self.clinical[position], self.labels[position], patient, draws)


def permuted_order(patients: Sequence[str], seed: int) -> list[str]:
    """The patients in an order that says nothing of them, the same one in every epoch."""
    order = keyed_generator(seed, "permuted bags").permutation(len(patients))
    return [patients[position] for position in order]


class EpochSampler(Sampler[Key]):
    """All patients once: shuffled by (seed, epoch) for training, in their order otherwise.

    Lightning calls `set_epoch`, but a resumed fold's workers draw their first batches before it
    does: hence `epoch`, the first.
    """

    def __init__(self, patients: int, seed: int, shuffle: bool, epoch: int = 0):
        self.patients = patients
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = epoch

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.patients

    def __iter__(self) -> Iterator[Key]:
        if not self.shuffle:
            # Evaluation draws the same subset of images whatever the epoch.
            yield from ((0, position) for position in range(self.patients))
            return
        order = keyed_generator(self.seed, "order", self.epoch).permutation(self.patients)
        yield from ((self.epoch, position) for position in order.tolist())


def collate(bags: Sequence[Bag]) -> Batch:
    """The bags one after the other; images stay bytes, and channels last in memory.

    Rows of features stay rows.
    """
    with_images = any(len(bag.images) for bag in bags)
    for bag in bags:
        if with_images and not len(bag.images):
            raise InputError(f"patient {bag.patient} has no image; every bag needs at least one")
    # A single bag is not copied: it may be larger than half the memory.
    images = bags[0].images if len(bags) == 1 else np.concatenate([bag.images for bag in bags])
    draws = [bag.draws for bag in bags if bag.draws is not None]
    tensor = torch.from_numpy(images)
    return Batch(
        images=tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor,
        lengths=torch.tensor([len(bag.images) for bag in bags]),
        clinical=_stack([bag.clinical for bag in bags]),
        label=torch.tensor([bag.label for bag in bags], dtype=torch.float32),
        ids=tuple(bag.patient for bag in bags),
        draws=torch.from_numpy(np.concatenate(draws)) if draws else None,
    )


def _stack(rows: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(rows))
