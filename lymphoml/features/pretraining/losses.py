"""Losses of self-supervised pretraining on two views of each image, by the method's name."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN = 256  # features between the encoder and those compared
COMPARED = {"simclr": 128, "vicreg": 256}  # features


def make_head(method: str, dim: int) -> nn.Module:
    """Return the layers between encoder and loss, thrown away after pretraining."""
    first = nn.Linear(dim, HIDDEN, bias=False)
    return nn.Sequential(
        first, nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, COMPARED[method])
    )


def simclr(
    one: Float[Tensor, "n d"], other: Float[Tensor, "n d"], temperature: float
) -> Float[Tensor, ""]:
    """Contrast the two views of an image with all other views in the batch.

    Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations",
    equation 1, of cosines over `temperature`.
    """
    views = F.normalize(torch.cat([one, other]), dim=1)
    similarity = (views @ views.T / temperature).fill_diagonal_(-torch.inf)
    positives = torch.arange(len(views), device=views.device).roll(len(one))
    return F.cross_entropy(similarity, positives)


def vicreg(
    one: Float[Tensor, "n d"],
    other: Float[Tensor, "n d"],
    invariance: float,
    variance: float,
    covariance: float,
) -> Float[Tensor, ""]:
    """Two views agree, each feature varies over the batch, no two features are correlated.

    Bardes et al. 2022, "VICReg: Variance-Invariance-Covariance Regularization", equation 6.
    """
    variances = (_variance_term(one) + _variance_term(other)) / 2
    covariances = _covariance_term(one) + _covariance_term(other)
    return invariance * F.mse_loss(one, other) + variance * variances + covariance * covariances


LOSSES: dict[str, Callable[..., Tensor]] = {"simclr": simclr, "vicreg": vicreg}


def _variance_term(features: Float[Tensor, "n d"], epsilon: float = 1e-4) -> Float[Tensor, ""]:
    return F.relu(1 - (features.var(dim=0) + epsilon).sqrt()).mean()


def _covariance_term(features: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    covariance = torch.cov(features.T)
    diagonal = torch.eye(len(covariance), dtype=torch.bool, device=covariance.device)
    return covariance.masked_fill(diagonal, 0).square().sum() / len(covariance)
