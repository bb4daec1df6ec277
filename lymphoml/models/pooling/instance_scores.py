"""Poolings of instance scores: each instance gets one logit, and the bag is pooled from those."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from lymphoml.core.types import Features, Lengths, PerImage
from lymphoml.models.pooling.statistics import Pooling
from lymphoml.models.segments import (
    at_least_single,
    repeat,
    segment_logmeanexp,
    segment_logsumexp,
    segment_max,
    segment_quantiles,
    segment_softmax,
    segment_sum,
    segment_top_mean,
    split,
)


class InstanceScorer(Pooling):
    """s_k = w^T h_k + b"""

    def __init__(self, dim: int):
        super().__init__(1)
        self.w = nn.Linear(dim, 1)

    def score(self, features: Features) -> PerImage:
        """Return the logit of each instance; above 0 means positive."""
        return self.w(features).squeeze(1)


class TopFractionPooling(InstanceScorer):
    """z = mean of the highest `fraction` of a bag's scores s_k = w^T h_k + b.

    Top-k pooling with k = fraction N, not rounded: the last score counts in part. A fraction of 0
    keeps the highest score alone: mi-Net (Wang et al. 2018, "Revisiting Multiple Instance Neural
    Networks"). Raises ValueError for a fraction outside 0 to 1.
    """

    def __init__(self, dim: int, fraction: float = 0.1):
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction is {fraction}; it must lie between 0 and 1")
        super().__init__(dim)
        self.fraction = fraction

    def forward(self, features: Features, lengths: Lengths) -> Float[Tensor, "b 1"]:
        return segment_top_mean(self.score(features).unsqueeze(1), lengths, self.fraction)


class ChowderPooling(InstanceScorer):
    """z = `r` low and `r` high quantiles of a bag's scores s_k = w^T h_k + b, in rising order.

    Courtiol et al. 2018, "Classification and Disease Localization in Histopathology Using Only
    Global Labels", takes the R lowest and R highest scores, as here where fraction N = R. Here they
    are quantiles at the middles of R equal parts of the lowest and highest `fraction` of the bag.
    Raises ValueError for a fraction outside 0 to 0.5.
    """

    def __init__(self, dim: int, r: int = 5, fraction: float = 0.2):
        if r < 1 or not 0 < fraction <= 0.5:
            raise ValueError(
                f"r is {r} and fraction {fraction}; r must be >= 1, fraction above 0 and up to 0.5"
            )
        super().__init__(dim)
        self.dim = 2 * r
        low = [(i + 0.5) / r * fraction for i in range(r)]
        self.levels = low + [1 - level for level in reversed(low)]

    def forward(self, features: Features, lengths: Lengths) -> Float[Tensor, "b r"]:
        return segment_quantiles(self.score(features), lengths, self.levels)


class NoisyOr(InstanceScorer):
    """z = logit(1 - prod_k (1 - p_k)) with p_k = sigmoid(w^T h_k + b).

    Maron and Lozano-Pérez 1997, "A Framework for Multiple-Instance Learning". Every further
    instance makes a bag more positive: the result depends on bag size.
    """

    def forward(self, features: Features, lengths: Lengths) -> Float[Tensor, "b 1"]:
        return _logit(segment_logsumexp(self._log_surprise(features), lengths))

    def _log_surprise(self, features: Tensor) -> Float[Tensor, "n 1"]:
        """Return log(-log(1 - p_k)), which pools to log(-log(1 - P)) as a log-sum-exp."""
        score = at_least_single(self.score(features)).unsqueeze(1)
        # softplus(s) is -log(1 - p). Far below 0 it underflows, and equals exp(s) by then.
        return torch.where(score < -15, score, softplus(score.clamp(min=-15)).log())


class NoisyOrMean(NoisyOr):
    """z = logit(1 - prod_k (1 - p_k)^(1/N)) with p_k = sigmoid(w^T h_k + b).

    The noisy-or with the geometric mean in place of the product, independent of bag size.
    """

    def forward(self, features: Features, lengths: Lengths) -> Float[Tensor, "b 1"]:
        return _logit(segment_logmeanexp(self._log_surprise(features), lengths))


def _logit(log_surprise: Tensor) -> Tensor:
    """Return the logit of P from log(-log(1 - P)); clamped, so that no gradient is 0 * infinity."""
    large = log_surprise.clamp(min=0).exp()
    small = log_surprise.clamp(max=0)
    m = small.exp().clamp(min=1e-6)
    return torch.where(
        log_surprise > 0, large + (-(-large).expm1()).log(), small + (m.expm1() / m).log()
    )


class DSMIL(InstanceScorer):
    """z = [sum_k a_k h_k, s_m] with m = argmax_k s_k and a_k = softmax_k(q_k^T q_m / √e).

    Two streams: the critical instance m, and the instances similar to it. Li, Li and Eliceiri 2021,
    "Dual-stream Multiple Instance Learning Network", equations 2 to 5, with s_k = w^T h_k + b and
    q_k = Q h_k + c of e = `hidden` numbers. The paper averages two classifiers; here the fusion
    weighs both streams.
    """

    def __init__(self, dim: int, hidden: int = 128):
        super().__init__(dim)
        self.dim = dim + 1
        self.q = nn.Linear(dim, hidden)

    def forward(self, features: Features, lengths: Lengths) -> Float[Tensor, "b e"]:
        highest = segment_max(self.score(features).unsqueeze(1), lengths)
        weights = self.weights(features, lengths).unsqueeze(1)
        return torch.cat([segment_sum(weights * features, lengths), highest], dim=1)

    def weights(self, features: Features, lengths: Lengths) -> PerImage:
        """Return the attention a_k of each instance; it sums to one over a bag."""
        queries = at_least_single(self.q(features))
        scores = split(self.score(features), lengths)
        pairs = zip(lengths.cumsum(0) - lengths, scores, strict=True)
        critical = torch.stack([start + bag.argmax() for start, bag in pairs])
        critical_of = repeat(critical, lengths, features)
        similarity = (queries * queries[critical_of]).sum(1) / queries.shape[1] ** 0.5
        return segment_softmax(similarity, lengths)
