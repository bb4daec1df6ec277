"""Bag and clinical values side by side."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Concat(nn.Module):
    """One linear layer over the bag and the clinical values side by side, as in the report.

    `equal_parts` multiplies the k clinical values by sqrt(d / k): of one scale with the d features
    of the bag, they are then as large a part of the layer's input. A gradient step moves a part of
    the logit by that part's squared norm, so without it two clinical values learn d / k times
    slower than the images.
    """

    uses_images = True

    def __init__(self, image_dim: int, clinical_dim: int, equal_parts: bool = False):
        super().__init__()
        self.both = nn.Linear(image_dim + clinical_dim, 1)
        self.clinical_scale = (image_dim / max(clinical_dim, 1)) ** 0.5 if equal_parts else 1.0

    def forward(
        self, bag: Float[Tensor, "b d"], clinical: Float[Tensor, "b k"]
    ) -> Float[Tensor, " b"]:
        return self.both(torch.cat([bag, self.clinical_scale * clinical], dim=1)).squeeze(1)


# The clinical values alone.


class ClinicalOnly(nn.Module):
    """No images: logistic regression on the clinical values, the floor to beat."""

    uses_images = False

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__()
        self.clinical = nn.Linear(clinical_dim, 1)

    def forward(
        self, bag: Float[Tensor, "b d"] | None, clinical: Float[Tensor, "b k"]
    ) -> Float[Tensor, " b"]:
        return self.clinical(clinical).squeeze(1)


# Clinical values that change what the images mean.


class FiLM(nn.Module):
    """logit = w^T ((1 + γ) * z + β) + b, with scale γ and shift β linear in the clinical values.

    Feature-wise linear modulation, Perez et al. 2018, "FiLM: Visual Reasoning with a General
    Conditioning Layer", of the pooled features z. γ and β start at 0: a model of the images alone.
    """

    uses_images = True

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__()
        self.modulation = nn.Linear(clinical_dim, 2 * image_dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.image = nn.Linear(image_dim, 1)

    def forward(
        self, bag: Float[Tensor, "b d"], clinical: Float[Tensor, "b k"]
    ) -> Float[Tensor, " b"]:
        gamma, beta = self.modulation(clinical).chunk(2, dim=1)
        return self.image(torch.addcmul(bag + beta, gamma, bag)).squeeze(1)


# What the images alone say, as a logit.


def image_head(image_dim: int) -> nn.Module:
    """A linear layer over the bag (b d -> b 1); nothing where the pooling gives one logit already.

    A layer there could turn the sign of an instance's score, and with it the assumption that a
    positive instance makes a bag positive.
    """
    return nn.Identity() if image_dim == 1 else nn.Linear(image_dim, 1)


# The images alone.


class NoClinical(nn.Module):
    """Images only: one linear layer over the bag."""

    uses_images = True

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__()
        self.image = image_head(image_dim)

    def forward(
        self, bag: Float[Tensor, "b d"], clinical: Float[Tensor, "b k"]
    ) -> Float[Tensor, " b"]:
        return self.image(bag).squeeze(1)
