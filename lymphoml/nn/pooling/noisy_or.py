"""The probability that an instance is positive, if each one is so independently."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from lymphoml.nn.pooling.scorer import Scorer
from lymphoml.nn.segments import at_least_single, segment_logmeanexp, segment_logsumexp


class NoisyOrSeesSize(Scorer):
    """z = logit(1 - prod_k (1 - p_k)) with p_k = sigmoid(w^T h_k + b).

    Maron and Lozano-Pérez 1997, "A Framework for Multiple-Instance Learning". Any instance more
    makes a bag more positive: large bags are suspect by their size alone.
    """

    def __init__(self, dim: int):
        super().__init__(dim)
        self.dim = 1

    def forward(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b 1"]:
        return _logit(segment_logsumexp(self._log_surprise(features), lengths))

    def _log_surprise(self, features: Tensor) -> Float[Tensor, "n 1"]:
        """log(-log(1 - p_k)), of which log(-log(1 - P)) is the logarithm of a sum or mean."""
        score = at_least_single(self.score(features)).unsqueeze(1)
        # softplus(s) is -log(1 - p). Far below 0 it underflows, and is exp(s) by then.
        return torch.where(score < -15, score, softplus(score.clamp(min=-15)).log())


class NoisyOr(NoisyOrSeesSize):
    """z = logit(1 - prod_k (1 - p_k)^(1/N)) with p_k = sigmoid(w^T h_k + b).

    The noisy-or with the geometric mean in place of the product, blind to the size of the bag.
    """

    def forward(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b 1"]:
        return _logit(segment_logmeanexp(self._log_surprise(features), lengths))


def _logit(log_surprise: Tensor) -> Tensor:
    """The logit of P from log(-log(1 - P)): log(exp(m) - 1) with m = -log(1 - P).

    Each branch is clamped to where it holds, so that no gradient is a product of 0 and infinity.
    """
    large = log_surprise.clamp(min=0).exp()
    small = log_surprise.clamp(max=0)
    m = small.exp().clamp(min=1e-6)
    return torch.where(
        log_surprise > 0,
        large + (-(-large).expm1()).log(),
        small + (m.expm1() / m).log(),
    )
