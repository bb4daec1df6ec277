"""Fusions of probabilities: an image expert and a clinical expert, mixed or multiplied.

Computed in log space: neither logit nor gradient overflows, however sure the experts are.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from lymphoml.core.types import Bags, Clinical, PerBag
from lymphoml.models.fusion.interface import Fusion
from lymphoml.models.fusion.linear import image_head


class MixtureOfExperts(Fusion):
    """logit of p = π * sigmoid(image) + (1 - π) * sigmoid(clinical), with π = sigmoid(gate).

    The gate is linear in both inputs. Sahasrabudhe et al. 2020, "Deep Multi-Instance Learning Using
    Multi-Modal Data for Diagnosis of Lymphocytosis". The cross-entropy of this logit is the
    likelihood of the mixture, not a mixture of likelihoods or of logits.
    """

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__()
        self.image = image_head(image_dim)
        self.takes_image_logit = image_dim == 1
        self.clinical = nn.Linear(clinical_dim, 1)
        self.gate = nn.Linear(image_dim + clinical_dim, 1)

    def forward(self, bag: Bags, clinical: Clinical) -> PerBag:
        gate = self.gate(torch.cat([bag, clinical], dim=1))
        return mixture_logit(gate, self.image(bag), self.clinical(clinical)).squeeze(1)


def mixture_logit(
    gate: Float[Tensor, "*b"], first: Float[Tensor, "*b"], second: Float[Tensor, "*b"]
) -> Float[Tensor, "*b"]:
    """Return the logit of sigmoid(gate) * sigmoid(first) + sigmoid(-gate) * sigmoid(second)."""
    log_first, log_second = logsigmoid(gate), logsigmoid(-gate)
    log_p = torch.logaddexp(log_first + logsigmoid(first), log_second + logsigmoid(second))
    log_not_p = torch.logaddexp(log_first + logsigmoid(-first), log_second + logsigmoid(-second))
    return log_p - log_not_p


class ProductOfProbabilities(Fusion):
    """logit of p = sigmoid(image) * sigmoid(clinical): a noisy-and, tumoral where both say so.

    With 1 - p = (1 - p_image) + p_image (1 - p_clinical). The product of experts of Hinton 2002,
    which normalises over both labels, adds the two logits: that is `AdditiveLogit`.
    """

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__()
        self.image = image_head(image_dim)
        self.takes_image_logit = image_dim == 1
        self.clinical = nn.Linear(clinical_dim, 1)

    def forward(self, bag: Bags, clinical: Clinical) -> PerBag:
        image, other = self.image(bag), self.clinical(clinical)
        log_p = logsigmoid(image) + logsigmoid(other)
        log_not_p = torch.logaddexp(logsigmoid(-image), logsigmoid(image) + logsigmoid(-other))
        return (log_p - log_not_p).squeeze(1)
