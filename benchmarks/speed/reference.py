"""The paper's recipe, written from its description.

Pillow decodes every image each time it is needed; images are double precision until the network
sees them; the network runs in single precision, channels first, one patient a step.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from benchmarks.speed.recipe import Network, Patient

Bag = tuple[Tensor, Tensor, Tensor]  # images (n, 3, h, w), clinical (2), label ()


class JpegBags(Dataset[Bag]):
    def __init__(self, patients: Sequence[Patient]):
        self.patients = patients

    def __len__(self) -> int:
        return len(self.patients)

    def __getitem__(self, index: int) -> Bag:
        patient = self.patients[index]
        return (
            torch.from_numpy(np.stack([_decode(path) for path in patient.images])),
            torch.tensor(patient.clinical, dtype=torch.float64),
            torch.tensor(patient.label, dtype=torch.float64),
        )


class Reference:
    """`shuffle=False` trains on the patients in the order given."""

    def __init__(
        self,
        network: Network,
        patients: Sequence[Patient],
        held_out: Sequence[Patient],
        device: str = "cpu",
        shuffle: bool = True,
    ):
        self.network, self.device = network.to(device), device
        self.optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)
        self.training = DataLoader(JpegBags(patients), batch_size=None, shuffle=shuffle)
        self.held_out = DataLoader(JpegBags(held_out), batch_size=None)

    def train(self) -> Iterator[tuple[int, float]]:
        """Train for one epoch; yield the images and the loss of each step."""
        self.network.train()
        for bag in self.training:
            images, clinical, label = (value.to(self.device).float() for value in bag)
            loss = F.binary_cross_entropy_with_logits(self.network(images, clinical), label)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            yield len(images), loss.item()

    @torch.no_grad()
    def predict(self) -> Iterator[tuple[int, float]]:
        """Yield the images and the probability of each held-out patient."""
        self.network.eval()
        for bag in self.held_out:
            images, clinical, _ = (value.to(self.device).float() for value in bag)
            yield len(images), torch.sigmoid(self.network(images, clinical)).item()


def _decode(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return (np.asarray(image.convert("RGB")) / 255).transpose(2, 0, 1)
