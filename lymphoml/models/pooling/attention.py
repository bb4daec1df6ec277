"""Poolings that average the instances with learned weights."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import batch_norm, logsigmoid

from lymphoml.core.types import Bags, Features, Lengths, PerImage
from lymphoml.models.pooling.statistics import Pooling
from lymphoml.models.segments import at_least_single, segment_softmax, segment_sum


class Attention(Pooling):
    """z = sum_k a_k h_k with a_k = softmax_k(w^T tanh(V h_k^T)).

    Ilse, Tomczak and Welling 2018, "Attention-based Deep Multiple Instance Learning", equations 7
    and 8. V has `hidden` rows; as in the equations there are no biases.
    """

    def __init__(self, dim: int, hidden: int = 128):
        super().__init__(dim)
        self.v = nn.Linear(dim, hidden, bias=False)
        self.w = nn.Linear(hidden, 1, bias=False)

    def forward(self, features: Features, lengths: Lengths) -> Bags:
        weights = self.weights(features, lengths).unsqueeze(1)
        return segment_sum(weights * features, lengths)

    def weights(self, features: Features, lengths: Lengths) -> PerImage:
        """Return the attention a_k of each instance; it sums to one over a bag."""
        return segment_softmax(self.score(features), lengths)

    def score(self, features: Features) -> PerImage:
        """Return the logarithm of a_k up to a constant of the bag."""
        return self.w(torch.tanh(self.v(features))).squeeze(1)


class GatedAttention(Attention):
    """z = sum_k a_k h_k with a_k = softmax_k(w^T (tanh(V h_k^T) * sigmoid(U h_k^T))).

    Ilse, Tomczak and Welling 2018, equations 7 and 9. V and U have `hidden` rows.
    """

    def __init__(self, dim: int, hidden: int = 128):
        super().__init__(dim, hidden)
        self.u = nn.Linear(dim, hidden, bias=False)

    def score(self, features: Features) -> PerImage:
        gated = torch.tanh(self.v(features)) * torch.sigmoid(self.u(features))
        return self.w(gated).squeeze(1)


class MultiheadAttention(Pooling):
    """z = W [z_1 ... z_m] + b with z_j = sum_k a_jk V_j h_k, a_jk = softmax_k(q_j^T K_j h_k / √e).

    The only query is a learned class token of m `heads` of e = dim / m numbers, as in pooling by
    multihead attention with one seed (Lee et al. 2019, "Set Transformer"). The token is not a key:
    z would depend on bag size. Raises ValueError where `heads` does not divide `dim`.
    """

    def __init__(self, dim: int, heads: int = 8):
        super().__init__(dim)
        if heads < 1 or dim % heads:
            raise ValueError(f"heads is {heads}; it must divide {dim}, the width of the features")
        self.token = nn.Parameter(torch.randn(heads, dim // heads))
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, features: Features, lengths: Lengths) -> Bags:
        weights = self._head_weights(features, lengths).unsqueeze(2)
        values = self.value(features).unflatten(1, self.token.shape)
        pooled = segment_sum(weights * values, lengths).flatten(1)
        return self.out(pooled).to(pooled)

    def weights(self, features: Features, lengths: Lengths) -> PerImage:
        """Return the attention of each instance, averaged over heads."""
        return self._head_weights(features, lengths).mean(1)

    def _head_weights(self, features: Tensor, lengths: Tensor) -> Float[Tensor, "n m"]:
        keys = self.key(features).unflatten(1, self.token.shape)
        scores = (keys * self.token).sum(2) / self.token.shape[1] ** 0.5
        return segment_softmax(scores, lengths)


class SigmoidWeightedMean(Pooling):
    """z = sum_k a_k h_k / sum_k a_k with a_k = sigmoid(BN(w^T h_k)).

    Not from a paper. BN is batch normalisation of the score: in training over all instances of the
    batch, so that here the other bags do matter; else, and for one instance, by running statistics.
    """

    def __init__(self, dim: int):
        super().__init__(dim)
        self.w = nn.Linear(dim, 1, bias=False)
        self.norm = nn.BatchNorm1d(1)

    def forward(self, features: Features, lengths: Lengths) -> Bags:
        weights = self.weights(features, lengths).unsqueeze(1)
        return segment_sum(weights * features, lengths)

    def weights(self, features: Features, lengths: Lengths) -> PerImage:
        """Return the weight of each instance; they sum to one over a bag."""
        # The softmax of log a_k is a_k / sum a_k, and stays finite where all a_k vanish.
        return segment_softmax(logsigmoid(self.score(features)), lengths)

    def score(self, features: Features) -> PerImage:
        """Return the logit of a_k."""
        norm, score = self.norm, at_least_single(self.w(features))
        if not self.training or len(features) > 1:
            return norm(score).squeeze(1)
        statistics = norm.running_mean, norm.running_var
        return batch_norm(score, *statistics, norm.weight, norm.bias).squeeze(1)
