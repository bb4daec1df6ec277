"""Self-supervised pretraining: random views of each image, and the loss on two of them."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lymphoml.core.types import Bytes, Features, Pixels
from lymphoml.data.transforms import move, normalize, to_unit
from lymphoml.features.pretraining.settings import PretrainConfig

HIDDEN = 256  # features between the encoder and those compared
COMPARED = {"simclr": 128, "vicreg": 256}  # features


def draw_views(images: Bytes, settings: PretrainConfig) -> Pixels:
    """Return a view of each image, by torch's global generator of the CPU on any device."""
    places = affine(len(images), settings.zoom, settings.shift).to(images.device)
    views = jitter_colours(move(to_unit(images), places), settings.colour)
    return normalize(views, settings.normalize_images)


def affine(count: int, zoom: float, shift: float) -> Float[Tensor, "n 2 3"]:
    """Return random affine maps from a view to an image: any angle, mirrored, zoomed, moved."""
    angle = 2 * math.pi * torch.rand(count)
    scale = zoom + (1 - zoom) * torch.rand(count)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    right, down = shift * _uniform(2, count)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    maps = torch.stack([cos * mirror, -sin, right]), torch.stack([sin * mirror, cos, down])
    return torch.stack(maps).permute(2, 0, 1)


def jitter_colours(images: Pixels, amount: float) -> Pixels:
    """Change contrast by up to `amount` about the mean, each channel's level by up to half."""
    contrast = 1 + amount * _uniform(len(images), 1, 1, 1).to(images.device)
    level = amount / 2 * _uniform(len(images), images.shape[1], 1, 1).to(images.device)
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * contrast + mean + level


def _uniform(*shape: int) -> Tensor:
    """Draw from [-1, 1)."""
    return 2 * torch.rand(shape) - 1


def make_head(method: str, dim: int) -> nn.Module:
    """Return the layers between encoder and loss, thrown away after pretraining."""
    first, last = nn.Linear(dim, HIDDEN, bias=False), nn.Linear(HIDDEN, COMPARED[method])
    return nn.Sequential(first, nn.BatchNorm1d(HIDDEN), nn.ReLU(), last)


def simclr(one: Features, other: Features, temperature: float) -> Float[Tensor, ""]:
    """Contrast the two views of an image with all other views in the batch.

    Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations",
    equation 1, of cosines over `temperature`.
    """
    views = F.normalize(torch.cat([one, other]), dim=1)
    similarity = (views @ views.T / temperature).fill_diagonal_(-torch.inf)
    positives = torch.arange(len(views), device=views.device).roll(len(one))
    return F.cross_entropy(similarity, positives)


def vicreg(
    one: Features, other: Features, invariance: float, variance: float, covariance: float
) -> Float[Tensor, ""]:
    """Two views agree, each feature varies over the batch, no two features are correlated.

    Bardes et al. 2022, "VICReg: Variance-Invariance-Covariance Regularization", equation 6.
    """
    variances = (_variance_term(one) + _variance_term(other)) / 2
    covariances = _covariance_term(one) + _covariance_term(other)
    return invariance * F.mse_loss(one, other) + variance * variances + covariance * covariances


LOSSES: dict[str, Callable[..., Tensor]] = {"simclr": simclr, "vicreg": vicreg}


def _variance_term(features: Features, epsilon: float = 1e-4) -> Float[Tensor, ""]:
    return F.relu(1 - (features.var(dim=0) + epsilon).sqrt()).mean()


def _covariance_term(features: Features) -> Float[Tensor, ""]:
    covariance = torch.cov(features.T)
    diagonal = torch.eye(len(covariance), dtype=torch.bool, device=covariance.device)
    return covariance.masked_fill(diagonal, 0).square().sum() / len(covariance)
