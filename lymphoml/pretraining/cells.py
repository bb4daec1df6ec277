"""The images of many patients as one row of cells, read from the image store as they are drawn."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lymphoml.data.images import ImageStore
from lymphoml.seeding import keyed_generator


class Cells:
    """Cell k is the k-th image of the store, patient after patient."""

    def __init__(self, store: ImageStore):
        self._store, self._patients = store, store.patients
        self._ends = np.cumsum(store.lengths)
        self.size = store.size

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def take(self, numbers: np.ndarray) -> Tensor:
        """The cells of these numbers, uint8 (n, c, h, w); each patient's part is mapped once."""
        images = np.empty((len(numbers), *self.size, 3), np.uint8)
        owners = np.searchsorted(self._ends, numbers, side="right")
        for owner in np.unique(owners):
            wanted, bag = owners == owner, self._store.bag(self._patients[owner])
            images[wanted] = bag[numbers[wanted] - (self._ends[owner] - len(bag))]
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    def batches(self, size: int, *keys: int | str) -> Iterator[Tensor]:
        """All cells in the order that `keys` draw, but for those that fill no batch."""
        order = keyed_generator(*keys, "cells").permutation(len(self))
        size = min(size, len(self))
        for batch in range(len(self) // size):
            yield self.take(order[batch * size : (batch + 1) * size])
