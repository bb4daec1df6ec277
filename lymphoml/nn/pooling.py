"""Poolings: from the features of all instances (n d) to one vector a bag (b d).

`h_1 ... h_N` are the features of one bag, `z` its pooled vector. Every pooling ignores the order
of the instances, the other bags of the batch, and the size of the bag: doubling every instance
changes nothing, since bag size alone tells the label apart in this cohort.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lymphoml.nn.segments import (
    segment_logsumexp,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
)


class Mean(nn.Module):
    """z = 1/N sum_k h_k"""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b d"]:
        return segment_mean(features, lengths)


class Max(nn.Module):
    """z = max_k h_k, feature by feature."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b d"]:
        return segment_max(features, lengths)


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
        total = segment_logsumexp(self.r * features, lengths)
        return (total - lengths.to(total).log().unsqueeze(1)) / self.r


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


class GatedAttention(Attention):
    """z = sum_k a_k h_k with a_k = softmax_k(w^T (tanh(V h_k^T) * sigmoid(U h_k^T))).

    Ilse, Tomczak and Welling 2018, equations 7 and 9: the gate lets the score leave the nearly
    linear middle of tanh. `hidden` is the number of rows of V and of U.
    """

    def __init__(self, dim: int, hidden: int = 128):
        super().__init__(dim, hidden)
        self.u = nn.Linear(dim, hidden, bias=False)

    def score(self, features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        gated = torch.tanh(self.v(features)) * torch.sigmoid(self.u(features))
        return self.w(gated).squeeze(1)
