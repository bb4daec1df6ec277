"""One logit an instance: what the poolings of scores have in common."""

from jaxtyping import Float
from torch import Tensor, nn


class Scorer(nn.Module):
    """s_k = w^T h_k + b"""

    def __init__(self, dim: int):
        super().__init__()
        self.w = nn.Linear(dim, 1)

    def score(self, features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Above 0 says that the instance is positive."""
        return self.w(features).squeeze(1)
