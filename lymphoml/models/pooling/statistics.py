"""Poolings without weights: statistics of each feature over the bag."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lymphoml.core.types import Bags, Features, Lengths
from lymphoml.models.segments import (
    segment_logmeanexp,
    segment_max,
    segment_mean,
    segment_quantiles,
    segment_variance,
)


class Pooling(nn.Module):
    """Its output has the width `dim`: that of the features, unless a pooling sets another."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim


class Mean(Pooling):
    """z = 1/N sum_k h_k"""

    def forward(self, features: Features, lengths: Lengths) -> Bags:
        return segment_mean(features, lengths)


class Max(Pooling):
    """z = max_k h_k, feature by feature."""

    def forward(self, features: Features, lengths: Lengths) -> Bags:
        return segment_max(features, lengths)


class LogSumExp(Pooling):
    """z = 1/r log(1/N sum_k exp(r h_k)): the mean as r -> 0, the maximum as r -> infinity.

    Pinheiro and Collobert 2015, "From Image-level to Pixel-level Labeling".
    """

    def __init__(self, dim: int, r: float = 1.0):
        super().__init__(dim)
        if not r > 0:
            raise ValueError(f"r is {r}; it must be above 0")
        self.r = r

    def forward(self, features: Features, lengths: Lengths) -> Bags:
        return segment_logmeanexp(self.r * features, lengths) / self.r


class MeanStd(Pooling):
    """z = [mean, std] with std = (1/N sum_k (h_k - mean)^2 + eps)^(1/2), feature by feature.

    `eps` keeps the gradient finite where all instances are equal.
    """

    def __init__(self, dim: int, eps: float = 1e-4):
        super().__init__(2 * dim)
        if not eps > 0:
            raise ValueError(f"eps is {eps}; it must be above 0")
        self.eps = eps

    def forward(self, features: Features, lengths: Lengths) -> Float[Tensor, "b e"]:
        mean = segment_mean(features, lengths)
        variance = segment_variance(features, mean, lengths)
        return torch.cat([mean, (variance + self.eps).sqrt()], dim=1)


class Distribution(Pooling):
    """z = [mean, log std, quantiles at `levels`] of the bag, feature by feature.

    log std = 1/2 log(1/N sum_k (h_k - mean)^2 + eps). The quantile at level q is the smallest h_k
    that at least q N of the bag do not exceed. Raises ValueError for a level outside 0 to 1.
    """

    def __init__(self, dim: int, levels: Sequence[float] = (0.1, 0.5, 0.9), eps: float = 1e-4):
        super().__init__((2 + len(levels)) * dim)
        if not all(0 <= level <= 1 for level in levels) or not eps > 0:
            raise ValueError(
                f"levels are {list(levels)} and eps is {eps}; levels must lie between 0 and 1, "
                "eps above 0"
            )
        self.levels, self.eps = list(levels), eps

    def forward(self, features: Features, lengths: Lengths) -> Float[Tensor, "b e"]:
        mean = segment_mean(features, lengths)
        variance = segment_variance(features, mean, lengths)
        log_std = 0.5 * (variance + self.eps).log()
        quantiles = segment_quantiles(features, lengths, self.levels).flatten(1)
        return torch.cat([mean, log_std, quantiles], dim=1)
