"""The report's network in plain PyTorch: what both plain recipes train."""

import torch
from torch import Tensor, nn
from torchvision.models import resnet18


class Network(nn.Module):
    """ResNet18 from scratch, the mean over the bag, age and count beside it, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = resnet18()
        self.encoder.fc = nn.Identity()
        self.head = nn.Linear(512 + 2, 1)

    def forward(self, images: Tensor, clinical: Tensor) -> Tensor:
        """The logit of one patient: images (n, 3, h, w), clinical (2), logit ()."""
        bag = self.encoder(images).float().mean(0)
        with torch.autocast(images.device.type, enabled=False):
            return self.head(torch.cat([bag, clinical])).squeeze(0)
