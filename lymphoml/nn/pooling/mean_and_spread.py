"""The average instance, and how much the others differ from it."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lymphoml.nn.segments import segment_mean


class MeanAndSpread(nn.Module):
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
