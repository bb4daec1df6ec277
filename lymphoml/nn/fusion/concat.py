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
