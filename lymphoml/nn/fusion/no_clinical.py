"""The images alone."""

from jaxtyping import Float
from torch import Tensor, nn

from lymphoml.nn.fusion.image_expert import image_expert


class NoClinical(nn.Module):
    """Images only: one linear layer over the bag."""

    uses_images = True

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__()
        self.image = image_expert(image_dim)

    def forward(
        self, bag: Float[Tensor, "b d"], clinical: Float[Tensor, "b k"]
    ) -> Float[Tensor, " b"]:
        return self.image(bag).squeeze(1)
