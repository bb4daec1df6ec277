"""Losses of self-supervised pretraining on two views of each image, by name."""

import inspect
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lymphoml.core.errors import InputError, one_line
from lymphoml.features.pretraining.settings import METHODS

HIDDEN = 256  # features between the encoder and those compared


class Method(nn.Module):
    """A head behind the encoder, thrown away after pretraining, and a loss of its outputs."""

    compared: ClassVar[int]  # features

    def __init__(self, dim: int):
        super().__init__()
        self.head = nn.Sequential(
            nn.Linear(dim, HIDDEN, bias=False),
            nn.BatchNorm1d(HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, self.compared),
        )

    def loss(self, one: Float[Tensor, "n d"], other: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """Return the loss of the head's outputs for the first and second view of n images."""
        raise NotImplementedError


class SimCLR(Method):
    """Contrast the two views of an image with all other views in the batch.

    Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations",
    equation 1, of cosines over `temperature`.
    """

    compared = 128

    def __init__(self, dim: int, temperature: float):
        super().__init__(dim)
        if temperature <= 0:
            raise ValueError(f"temperature={temperature}: must be > 0")
        self.temperature = temperature

    def loss(self, one: Float[Tensor, "n d"], other: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        views = F.normalize(torch.cat([one, other]), dim=1)
        similarity = (views @ views.T / self.temperature).fill_diagonal_(-torch.inf)
        positives = torch.arange(len(views), device=views.device).roll(len(one))
        return F.cross_entropy(similarity, positives)


class VICReg(Method):
    """Two views agree, each feature varies over the batch, no two features are correlated.

    Bardes et al. 2022, "VICReg: Variance-Invariance-Covariance Regularization", equation 6.
    """

    compared = 256

    def __init__(self, dim: int, invariance: float, variance: float, covariance: float):
        super().__init__(dim)
        self.invariance, self.variance, self.covariance = invariance, variance, covariance

    def loss(self, one: Float[Tensor, "n d"], other: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        variance = (_variance_term(one) + _variance_term(other)) / 2
        covariance = _covariance_term(one) + _covariance_term(other)
        agreement = self.invariance * F.mse_loss(one, other)
        return agreement + self.variance * variance + self.covariance * covariance


def _variance_term(features: Float[Tensor, "n d"], epsilon: float = 1e-4) -> Float[Tensor, ""]:
    return F.relu(1 - (features.var(dim=0) + epsilon).sqrt()).mean()


def _covariance_term(features: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    covariance = torch.cov(features.T)
    diagonal = torch.eye(len(covariance), dtype=torch.bool, device=covariance.device)
    return covariance.masked_fill(diagonal, 0).square().sum() / len(covariance)


CLASSES = dict(zip(METHODS, (SimCLR, VICReg), strict=True))


def make_method(settings: dict[str, Any], dim: int) -> Method:
    """Return the method of the section `pretrain`, for features of width `dim`.

    Raises InputError for settings that it does not have.
    """
    method, given = CLASSES[settings["method"]], settings["loss"]
    try:
        inspect.signature(method).bind(dim, **given)
        return method(dim, **given)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"pretrain.loss={given} of {settings['method']}: {one_line(error)[:200]}"
        ) from None
