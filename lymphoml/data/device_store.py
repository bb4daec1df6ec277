"""A cohort's decoded images in the memory of the device that trains: no batch is copied there."""

import numpy as np
import torch
from torch import Tensor

from lymphoml.core.types import Bytes
from lymphoml.data.image_store import ImageStore


class DeviceStore(ImageStore):
    """The images of `store` on `device`; a bag holds their numbers (m), which `take` looks up."""

    def __init__(self, store: ImageStore, device: torch.device):
        self.size, self.patients, self.lengths = store.size, store.patients, store.lengths
        self._images = torch.empty(store.shape, dtype=torch.uint8, device=device)
        bags = np.split(np.arange(len(self._images)), np.cumsum(self.lengths)[:-1])
        self._numbers = dict(zip(self.patients, bags, strict=True))
        for patient, numbers in self._numbers.items():
            self._images[numbers[0] : numbers[-1] + 1] = torch.from_numpy(store.bag(patient))

    def bag(self, patient: str) -> np.ndarray:
        return self._numbers[patient]

    def take(self, numbers: Tensor) -> Bytes:
        """Return images of these numbers, channels last; no wait for a GPU."""
        numbers = numbers.to(self._images.device, non_blocking=True)
        return self._images.index_select(0, numbers).permute(0, 3, 1, 2)
