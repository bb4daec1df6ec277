"""Fusions linear in the bag: concatenation, FiLM, and either input alone."""

import torch
from torch import nn

from lymphoml.core.types import Bags, Clinical, PerBag
from lymphoml.models.fusion.interface import Fusion


def image_head(image_dim: int) -> nn.Module:
    """Return a linear layer from the bag (b d) to a logit (b 1); the identity where d is 1.

    A pooling of one number gives a logit already. A layer on top could flip its sign, and with it
    the assumption that a positive instance makes a bag positive.
    """
    return nn.Identity() if image_dim == 1 else nn.Linear(image_dim, 1)


class NoClinical(Fusion):
    """Images only: one linear layer over the bag."""

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__()
        self.image = image_head(image_dim)
        self.takes_image_logit = image_dim == 1

    def forward(self, bag: Bags, clinical: Clinical) -> PerBag:
        return self.image(bag).squeeze(1)


class ClinicalOnly(Fusion):
    """Clinical values only: logistic regression, the baseline to beat."""

    uses_images = False

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__()
        self.clinical = nn.Linear(clinical_dim, 1)

    def forward(self, bag: Bags | None, clinical: Clinical) -> PerBag:
        return self.clinical(clinical).squeeze(1)


class Concat(Fusion):
    """One linear layer over the bag concatenated with the clinical values, as in the paper.

    `equal_parts` multiplies the k clinical values by sqrt(d / k), so that they are as large a part
    of the layer's input as the d features of the bag. A gradient step moves the logit by the
    squared norm of each part: without scaling, clinical values learn d / k times slower.
    """

    def __init__(self, image_dim: int, clinical_dim: int, equal_parts: bool = False):
        super().__init__()
        self.both = nn.Linear(image_dim + clinical_dim, 1)
        self.clinical_scale = (image_dim / max(clinical_dim, 1)) ** 0.5 if equal_parts else 1.0

    def forward(self, bag: Bags, clinical: Clinical) -> PerBag:
        return self.both(torch.cat([bag, self.clinical_scale * clinical], dim=1)).squeeze(1)


class FiLM(Fusion):
    """logit = w^T ((1 + γ) * z + β) + b, with scale γ and shift β linear in the clinical values.

    Feature-wise linear modulation of the pooled features z (Perez et al. 2018, "FiLM: Visual
    Reasoning with a General Conditioning Layer"). γ and β start at 0: a model of the images alone.
    """

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__()
        self.modulation = nn.Linear(clinical_dim, 2 * image_dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.image = nn.Linear(image_dim, 1)

    def forward(self, bag: Bags, clinical: Clinical) -> PerBag:
        gamma, beta = self.modulation(clinical).chunk(2, dim=1)
        return self.image(torch.addcmul(bag + beta, gamma, bag)).squeeze(1)
