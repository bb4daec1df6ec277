"""An average with learned weights."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import batch_norm, logsigmoid

from lymphoml.models.segments import at_least_single, segment_softmax, segment_sum


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


# An average with learned weights, scored by a gated network.


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


# A class token that looks at the instances with several heads.


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


# An average with weights that do not compete.


class SigmoidWeightedMean(nn.Module):
    """z = sum_k a_k h_k / sum_k a_k with a_k = sigmoid(BN(w^T h_k)).

    Several instances can count in full, where a softmax makes them compete. No paper is followed:
    the equation is the source. BN is a batch normalisation of the one score: in training that of
    all instances of the batch, so that here batch mates count, in evaluation that of running
    statistics. A batch of a single instance is normalised by the latter: its weight cancels.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim
        self.w = nn.Linear(dim, 1, bias=False)
        self.norm = nn.BatchNorm1d(1)

    def forward(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b d"]:
        weights = self.weights(features, lengths).unsqueeze(1)
        return segment_sum(weights * features, lengths)

    def weights(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, " n"]:
        """What each instance counts; those of a bag sum to one."""
        # The softmax of log a_k is a_k / sum a_k, and stays finite where all a_k vanish.
        return segment_softmax(logsigmoid(self.score(features)), lengths)

    def score(self, features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """What the sigmoid is taken of."""
        norm, score = self.norm, at_least_single(self.w(features))
        if len(features) > 1:
            return norm(score).squeeze(1)
        return batch_norm(
            score, norm.running_mean, norm.running_var, norm.weight, norm.bias
        ).squeeze(1)
