"""The strongest instance, feature by feature."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from lymphoml.nn.segments import segment_max


class Max(nn.Module):
    """z = max_k h_k, feature by feature."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b d"]:
        return segment_max(features, lengths)
