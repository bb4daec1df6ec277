"""What the two plain variants share: the paper's network, and a cohort read as a script would."""

from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

BIRTHDAYS_UNTIL = date(2020, 1, 1)
DATE_FORMATS = {"/": "%m/%d/%Y", "-": "%d-%m-%Y"}


class Network(nn.Module):
    """ResNet18 from scratch, mean over the bag, age and count concatenated, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = resnet18()
        self.encoder.fc = nn.Identity()
        self.head = nn.Linear(512 + 2, 1)

    def forward(self, images: Tensor, clinical: Tensor) -> Tensor:
        """Return the logit () of one patient: images (n, 3, h, w), clinical (2)."""
        bag = self.encoder(images).float().mean(0)
        with torch.autocast(images.device.type, enabled=False):
            return self.head(torch.cat([bag, clinical])).squeeze(0)


class Patient(NamedTuple):
    id: str
    images: tuple[Path, ...]
    clinical: tuple[float, float]  # age in years, lymphocyte count in 10^9/L
    label: int


def read_patients(root: Path) -> list[Patient]:
    """Return the labelled patients of a cohort in Kaggle's layout, sorted by id."""
    table = pd.read_csv(root / "trainset" / "trainset_true.csv", dtype={"ID": str, "DOB": str})
    return sorted(
        Patient(
            patient,
            tuple(sorted((root / "trainset" / patient).glob("*.jpg"))),
            (_age(birthday), float(count)),
            int(label),
        )
        for patient, birthday, count, label in zip(
            table["ID"], table["DOB"], table["LYMPH_COUNT"], table["LABEL"], strict=True
        )
    )


def split(patients: list[Patient]) -> tuple[list[Patient], list[Patient]]:
    """Return training and held-out patients, one of five held out."""
    held_out = len(patients) // 5
    return patients[held_out:], patients[:held_out]


def _age(birthday: str) -> float:
    form = DATE_FORMATS["/" if "/" in birthday else "-"]
    return (BIRTHDAYS_UNTIL - datetime.strptime(birthday, form).date()).days / 365.25
