"""An image is already a row of features when it reaches the model."""

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

UNKNOWN = 2  # features; not 1, which a fusion takes for a score that nothing may follow


class FeatureRows(nn.Module):
    """Hands on the `dim` features of each image, through layers of `hidden` units where given.

    `rows` says whose they are, to whoever opens the bags (`lymphoml/instances.py`).
    `dim` is None in a configuration, until the rows have been opened and their width is known.
    `norm` is taken, since the default experiment names one for any encoder, and means nothing.
    """

    def __init__(
        self,
        rows: str,
        dim: int | None = None,
        norm: str | None = None,
        hidden: Sequence[int] = (),
    ):
        if any(units < 1 for units in hidden):
            raise ValueError(f"hidden is {list(hidden)}; allowed are 1 or more units a layer")
        super().__init__()
        widths = [dim or UNKNOWN, *hidden]
        self.dim = widths[-1]
        self.layers = nn.Sequential()
        for before, after in pairwise(widths):
            self.layers.extend([nn.Linear(before, after), nn.ReLU()])

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        return self.layers(features)
