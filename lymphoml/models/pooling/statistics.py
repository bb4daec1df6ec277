"""The average instance."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lymphoml.models.segments import (
    segment_logmeanexp,
    segment_max,
    segment_mean,
    segment_quantiles,
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


# The strongest instance, feature by feature.


class Max(nn.Module):
    """z = max_k h_k, feature by feature."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b d"]:
        return segment_max(features, lengths)


# The average instance, and how much the others differ from it.


class MeanStd(nn.Module):
    """z = [mean, spread], feature by feature; the spread is (1/N sum_k (h_k - mean)^2 + eps)^(1/2).

    What the baselines of images rest on too. `eps` keeps the gradient finite where all are alike.
    """

    def __init__(self, dim: int, eps: float = 1e-4):
        super().__init__()
        if not eps > 0:
            raise ValueError(f"eps is {eps}; it must be above 0")
        self.dim = 2 * dim
        self.eps = eps

    def forward(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b e"]:
        mean = segment_mean(features, lengths)
        own = torch.repeat_interleave(mean, lengths.to(mean.device), dim=0)
        variance = segment_mean((features - own).square(), lengths)
        return torch.cat([mean, (variance + self.eps).sqrt()], dim=1)


# How a bag's features are distributed: cytologists look at how alike the cells are.


class Distribution(nn.Module):
    """z = [mean, log spread, quantiles at `levels`] of the bag, feature by feature.

    The log spread is 1/2 log(1/N sum_k (h_k - mean)^2 + eps): `eps` is what the variance of a bag
    of one instance counts as. A quantile at level q is the smallest h_k that at least q N of the
    bag do not exceed: one of the bag's own values, and the same however often each is repeated.
    The width grows to 2 + len(levels) times that of the features. Raises ValueError for a level
    outside 0 to 1.
    """

    def __init__(self, dim: int, levels: Sequence[float] = (0.1, 0.5, 0.9), eps: float = 1e-4):
        super().__init__()
        if not all(0 <= level <= 1 for level in levels) or not eps > 0:
            raise ValueError(
                f"levels are {list(levels)} and eps is {eps}; levels must lie between 0 and 1, "
                "eps above 0"
            )
        self.dim = (2 + len(levels)) * dim
        self.levels = list(levels)
        self.eps = eps

    def forward(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b e"]:
        mean = segment_mean(features, lengths)
        own = torch.repeat_interleave(mean, lengths.to(mean.device), dim=0)
        spread = 0.5 * (segment_mean((features - own).square(), lengths) + self.eps).log()
        quantiles = segment_quantiles(features, lengths, self.levels).flatten(1)
        return torch.cat([mean, spread, quantiles], dim=1)


# Between mean and maximum.


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
        return segment_logmeanexp(self.r * features, lengths) / self.r
