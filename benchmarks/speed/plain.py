"""A plain PyTorch loop with every setting that is known to pay, and nothing else.

Images are decoded once into a memory map of bytes; channels last; bfloat16; fused SGD.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from benchmarks.speed.recipe import Network, Patient

Bag = tuple[Tensor, Tensor, Tensor]  # images uint8 (n, 3, h, w), clinical (2), label ()


class StoredBags(Dataset[Bag]):
    """Bags from a memory map of decoded images; `first` is the index of each patient's first."""

    def __init__(self, patients: Sequence[Patient], store: Path, first: dict[str, int]):
        self.patients, self.first = patients, first
        self.images = np.load(store, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.patients)

    def __getitem__(self, index: int) -> Bag:
        patient = self.patients[index]
        start = self.first[patient.id]
        images = np.array(self.images[start : start + len(patient.images)])
        return (
            torch.from_numpy(images).permute(0, 3, 1, 2),  # channels last in memory
            torch.tensor(patient.clinical),
            torch.tensor(float(patient.label)),
        )


class Plain:
    """`shuffle=False` trains on the patients in the order given."""

    def __init__(
        self,
        network: Network,
        patients: Sequence[Patient],
        held_out: Sequence[Patient],
        store: Path,
        bf16: bool,
        device: str = "cpu",
        shuffle: bool = True,
    ):
        cohort = sorted({*patients, *held_out})
        if not store.exists():
            decode_all(cohort, store)
        starts = np.cumsum([0, *(len(patient.images) for patient in cohort)]).tolist()
        first = dict(zip((patient.id for patient in cohort), starts, strict=False))
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.bf16, self.device = bf16, device
        self.optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, fused=True)
        pinned = device == "cuda"
        bags = StoredBags(patients, store, first)
        self.training = DataLoader(bags, batch_size=None, shuffle=shuffle, pin_memory=pinned)
        bags = StoredBags(held_out, store, first)
        self.held_out = DataLoader(bags, batch_size=None, pin_memory=pinned)

    def train(self) -> Iterator[tuple[int, Tensor]]:
        """Train for one epoch; yield the images and the loss of each step."""
        self.network.train()
        for bag in self.training:
            images, clinical, label = self._inputs(bag)
            with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
                logit = self.network(images, clinical)
            loss = F.binary_cross_entropy_with_logits(logit, label)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            yield len(images), loss.detach()

    @torch.inference_mode()
    def predict(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the images and the probability of each held-out patient."""
        self.network.eval()
        for bag in self.held_out:
            images, clinical, _ = self._inputs(bag)
            with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
                logit = self.network(images, clinical)
            yield len(images), torch.sigmoid(logit)

    def _inputs(self, bag: Bag) -> list[Tensor]:
        images, clinical, label = (value.to(self.device, non_blocking=True) for value in bag)
        return [images.float().div_(255), clinical, label]


def decode_all(patients: Sequence[Patient], store: Path) -> None:
    """Write every image once into one uint8 array (n, h, w, 3) on disk."""
    paths = [path for patient in patients for path in patient.images]
    shape = (len(paths), *_decode(paths[0]).shape)
    # Written, not mapped: mapped pages would count as memory of this process.
    with ThreadPoolExecutor() as pool, store.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for image in pool.map(_decode, paths):
            file.write(image.tobytes())


def _decode(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
