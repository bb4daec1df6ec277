"""The highest scores of a bag."""

from jaxtyping import Float, Int
from torch import Tensor

from lymphoml.nn.pooling.scorer import Scorer
from lymphoml.nn.segments import segment_top_mean


class TopShare(Scorer):
    """z = mean of the highest `share` of a bag's scores s_k = w^T h_k + b.

    Top-k pooling with k = share N, a share and not a count, so that the size of the bag plays no
    part; k is no whole number: the last score counts in part. A share of 0 keeps the highest score
    alone: mi-Net (Wang et al. 2018, "Revisiting Multiple Instance Neural Networks"). A share of 1
    is the mean. Raises ValueError for a share outside 0 to 1.
    """

    def __init__(self, dim: int, share: float = 0.1):
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share}; it must lie between 0 and 1")
        super().__init__(dim)
        self.dim = 1
        self.share = share

    def forward(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b 1"]:
        return segment_top_mean(self.score(features).unsqueeze(1), lengths, self.share)
