"""No encoder: an image is already a row of features when it reaches the model."""

from jaxtyping import Float
from torch import Tensor, nn


class FeatureRows(nn.Module):
    """Hands on the `dim` features of each image.

    `rows` says whose they are, to whoever opens the bags (`lymphoml/instances.py`).
    `dim` is None in a configuration, until the rows have been opened and their width is known.
    `norm` is taken, since the default experiment names one for any encoder, and means nothing.
    """

    def __init__(self, rows: str, dim: int | None = None, norm: str | None = None):
        super().__init__()
        self.dim = dim or 1

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return features
