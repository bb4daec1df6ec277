"""A class token that looks at the instances with several heads."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lymphoml.nn.segments import segment_softmax, segment_sum


class MultiheadAttention(nn.Module):
    """z = W [z_1 ... z_m] + b with z_j = sum_k a_jk V_j h_k, a_jk = softmax_k(q_j^T K_j h_k / √e).

    A class token of m heads, e = dim / m numbers each, is the only query, as in Vaswani et al.
    2017, "Attention Is All You Need", and Lee et al. 2019, "Set Transformer" (pooling by multihead
    attention with one seed). It is no key: a token among the keys takes a share of the softmax
    that shrinks as the bag grows, and so would see its size. Instances have no position. The
    query's own projection is part of the learned token, and a bias of the keys would cancel in the
    softmax. Raises ValueError where `heads` does not divide `dim`.
    """

    def __init__(self, dim: int, heads: int = 8):
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"heads is {heads}; it must divide {dim}, the width of the features")
        self.dim = dim
        self.token = nn.Parameter(torch.randn(heads, dim // heads))
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b d"]:
        weights = self._weights_of_heads(features, lengths).unsqueeze(2)
        values = self.value(features).unflatten(1, self.token.shape)
        pooled = segment_sum(weights * values, lengths).flatten(1)
        return self.out(pooled).to(pooled)

    def weights(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, " n"]:
        """The attention that each instance gets, averaged over heads."""
        return self._weights_of_heads(features, lengths).mean(1)

    def _weights_of_heads(self, features: Tensor, lengths: Tensor) -> Float[Tensor, "n m"]:
        keys = self.key(features).unflatten(1, self.token.shape)
        scores = (keys * self.token).sum(2) / self.token.shape[1] ** 0.5
        return segment_softmax(scores, lengths)
