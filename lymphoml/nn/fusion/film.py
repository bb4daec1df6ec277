"""Clinical values that change what the images mean."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


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
