"""Bags for torch: a dataset of patients, the order of an epoch, a ragged batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler, get_worker_info

from lymphoml.core.errors import InputError
from lymphoml.core.seeding import keyed_generator
from lymphoml.core.types import Batch
from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.image_store import ImageStore
from lymphoml.data.transforms import NOISE_SIZES

Key = tuple[int, int]  # epoch, position of the patient


class Bag(NamedTuple):
    # uint8 (m, h, w, 3), float32 (m, d), or numbers (m) for DeviceStore.take; of shape (0, 1, 1, 3)
    # where the model uses no images.
    images: np.ndarray
    clinical: np.ndarray  # float32 (k)
    label: int
    patient: str
    augmentation_noise: np.ndarray | None  # float32 (m, NOISE_SIZE), uniform in [0, 1)


@dataclass(eq=False)
class BagDataset(Dataset[Bag]):
    """The bags of some patients; the bag of `(epoch, position)` depends on nothing else.

    Patient i's images are those of patient `image_owners[i]`, another one where bags are shuffled.
    Without `store` no image is loaded. `bag_size` draws that many images of a larger bag, anew for
    each epoch and patient; `augment` draws the noise that augments each image.
    """

    patients: Sequence[str]
    image_owners: Sequence[str]
    clinical: np.ndarray
    labels: Sequence[int]
    store: ImageStore | FeatureStore | None
    bag_size: int | None
    augment: bool
    seed: int

    def __len__(self) -> int:
        return len(self.patients)

    def __getitem__(self, key: Key) -> Bag:
        epoch, position = key
        patient = self.patients[position]
        images = np.empty((0, 1, 1, 3), np.uint8)
        if self.store is not None:
            images = self.store.bag(self.image_owners[position])
            if self.bag_size is not None and len(images) > self.bag_size:
                rng = keyed_generator(self.seed, "instances", epoch, patient)
                images = images[np.sort(rng.permutation(len(images))[: self.bag_size])]
        noise = None
        if self.augment:
            noise = np.concatenate([
                keyed_generator(self.seed, key, epoch, patient).random((len(images), k), np.float32)
                for key, k in NOISE_SIZES.items()
            ], axis=1)  # fmt: skip
        return Bag(images, self.clinical[position], self.labels[position], patient, noise)


def shuffled_owners(patients: Sequence[str], seed: int) -> list[str]:
    """Return the patients in a random order, the same in every epoch."""
    order = keyed_generator(seed, "permuted bags").permutation(len(patients))
    return [patients[position] for position in order]


@dataclass(eq=False)
class EpochSampler(Sampler[Key]):
    """All patients once, as they come; for `training` in an order drawn from (seed, epoch), unless
    `shuffle` is off.

    Lightning calls `set_epoch`, but a resumed fold's workers draw their first batches before it
    does: hence `epoch`, the first one.
    """

    patients: int
    seed: int
    training: bool
    shuffle: bool = True
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.patients

    def __iter__(self) -> Iterator[Key]:
        epoch = self.epoch if self.training else 0  # evaluation draws the same images in every one
        order = np.arange(self.patients)
        if self.training and self.shuffle:
            order = keyed_generator(self.seed, "order", epoch).permutation(self.patients)
        yield from ((epoch, position) for position in order.tolist())


def collate(bags: Sequence[Bag]) -> Batch:
    """Concatenate bags: images (n, 3, h, w), channels last, or (n, d). Raises InputError."""
    with_images = any(len(bag.images) for bag in bags)
    for bag in bags:
        if with_images and not len(bag.images):
            raise InputError(f"patient {bag.patient} has no image; every bag needs at least one")
    # A single bag is not copied: it may be larger than half the memory.
    images = bags[0].images if len(bags) == 1 else np.concatenate([bag.images for bag in bags])
    noise = [bag.augmentation_noise for bag in bags if bag.augmentation_noise is not None]
    tensor = torch.from_numpy(images)
    if get_worker_info() is not None:  # else a thread of the worker's does, whose errors are lost
        tensor = tensor.share_memory_()
    return Batch(
        images=tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor,
        lengths=torch.tensor([len(bag.images) for bag in bags]),
        clinical=torch.from_numpy(np.stack([bag.clinical for bag in bags])),
        label=torch.tensor([bag.label for bag in bags], dtype=torch.float32),
        ids=tuple(bag.patient for bag in bags),
        augmentation_noise=torch.from_numpy(np.concatenate(noise)) if noise else None,
    )
