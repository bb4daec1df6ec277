"""The average instance."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from lymphoml.nn.segments import segment_mean


class Mean(nn.Module):
    """z = 1/N sum_k h_k"""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b d"]:
        return segment_mean(features, lengths)
