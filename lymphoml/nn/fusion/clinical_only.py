"""The clinical values alone."""

from jaxtyping import Float
from torch import Tensor, nn


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
