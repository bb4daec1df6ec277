"""An average with learned weights."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lymphoml.nn.segments import segment_softmax, segment_sum


class Attention(nn.Module):
    """z = sum_k a_k h_k with a_k = softmax_k(w^T tanh(V h_k^T)).

    Ilse, Tomczak and Welling 2018, "Attention-based Deep Multiple Instance Learning", equations 7
    and 8. `hidden` is the number of rows of V. As in the paper's equations there are no biases:
    one added to the score would cancel in the softmax and never learn.
    """

    def __init__(self, dim: int, hidden: int = 128):
        super().__init__()
        self.dim = dim
        self.v = nn.Linear(dim, hidden, bias=False)
        self.w = nn.Linear(hidden, 1, bias=False)

    def forward(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b d"]:
        weights = self.weights(features, lengths).unsqueeze(1)
        return segment_sum(weights * features, lengths)

    def weights(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, " n"]:
        """The attention a_k that each instance gets; those of a bag sum to one."""
        return segment_softmax(self.score(features), lengths)

    def score(self, features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """What the softmax is taken of."""
        return self.w(torch.tanh(self.v(features))).squeeze(1)
