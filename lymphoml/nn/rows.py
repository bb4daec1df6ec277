"""An image is already a row of features when it reaches the model."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

UNKNOWN = 2  # features; not 1, which a fusion takes for a score that nothing may follow


class FeatureRows(nn.Module):
    """Hands on the `dim` features of each image, through layers of `hidden` units where given.

    `rows` says whose they are, `networks` and `seed` how many and which untrained networks', to
    whoever opens the bags (`lymphoml/instances.py`). `dim`, and `widths`, those of the parts of
    `rows`, are None in a configuration, until the rows have been opened and are known. `alike`
    weighs the features of a part by the root of how much narrower than the average part it is:
    parts whose features vary alike then count alike, few or many.
    `norm` is taken, since the default experiment names one for any encoder, and means nothing.
    """

    def __init__(
        self,
        rows: str,
        dim: int | None = None,
        norm: str | None = None,
        hidden: Sequence[int] = (),
        alike: bool = False,
        widths: Sequence[int] | None = None,
        seed: int = 0,
        networks: int = 1,
    ):
        if any(units < 1 for units in hidden):
            raise ValueError(f"hidden is {list(hidden)}; allowed are 1 or more units a layer")
        super().__init__()
        layers = [dim or UNKNOWN, *hidden]
        self.dim = layers[-1]
        self.layers = nn.Sequential()
        for before, after in pairwise(layers):
            self.layers.extend([nn.Linear(before, after), nn.ReLU()])
        self.weights: Tensor
        self.register_buffer("weights", _alike(widths if alike and widths else ()), False)

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        return self.layers(features * self.weights if len(self.weights) else features)


def _alike(widths: Sequence[int]) -> Tensor:
    """A factor for each feature of the parts."""
    factors = [(sum(widths) / len(widths) / width) ** 0.5 for width in widths]
    return torch.tensor(factors).repeat_interleave(torch.tensor(widths, dtype=torch.int64))
