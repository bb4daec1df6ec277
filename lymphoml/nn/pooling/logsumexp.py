"""Between mean and maximum."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from lymphoml.nn.segments import segment_logmeanexp


class LogSumExp(nn.Module):
    """z = 1/r log(1/N sum_k exp(r h_k)): the mean as r -> 0, the maximum as r -> infinity.

    Pinheiro and Collobert 2015, "From Image-level to Pixel-level Labeling with Convolutional
    Networks".
    """

    def __init__(self, dim: int, r: float = 1.0):
        super().__init__()
        if not r > 0:
            raise ValueError(f"r is {r}; it must be above 0")
        self.dim = dim
        self.r = r

    def forward(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b d"]:
        return segment_logmeanexp(self.r * features, lengths) / self.r
