"""The highest and the lowest scores of a bag."""

from jaxtyping import Float, Int
from torch import Tensor

from lymphoml.nn.pooling.scorer import Scorer
from lymphoml.nn.segments import segment_quantiles


class Chowder(Scorer):
    """z = R low and R high quantiles of a bag's scores s_k = w^T h_k + b, in rising order.

    Courtiol et al. 2018, "Classification and Disease Localization in Histopathology Using Only
    Global Labels", takes the R lowest and R highest scores. Here they are quantiles at the middles
    of R equal parts of the lowest and of the highest `share` of the bag: the same scores where
    share N = R, and blind to the size of the bag. The paper's perceptron on top is left to the
    fusion. Raises ValueError for a share outside 0 to 0.5.
    """

    def __init__(self, dim: int, r: int = 5, share: float = 0.2):
        if r < 1 or not 0 < share <= 0.5:
            raise ValueError(
                f"r is {r} and share {share}; r must be 1 or more, share above 0 and up to 0.5"
            )
        super().__init__(dim)
        self.dim = 2 * r
        low = [(i + 0.5) / r * share for i in range(r)]
        self.levels = low + [1 - level for level in reversed(low)]

    def forward(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b r"]:
        return segment_quantiles(self.score(features), lengths, self.levels)
