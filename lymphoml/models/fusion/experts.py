"""Two experts and a gate."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from lymphoml.models.fusion.linear import image_head


class MixtureOfExperts(nn.Module):
    """An expert for the images, one for the clinical values, and a gate that trusts one or other.

    p = pi * sigmoid(image) + (1 - pi) * sigmoid(clinical), with pi = sigmoid(gate) and the gate
    linear in both inputs (Sahasrabudhe et al. 2020, "Deep Multi-Instance Learning Using
    Multi-Modal Data for Diagnosis of Lymphocytosis"). What comes out is the logit of p, so its
    cross-entropy is the likelihood of the mixture, not a mixture of likelihoods or of logits.
    """

    uses_images = True

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__()
        self.image = image_head(image_dim)
        self.clinical = nn.Linear(clinical_dim, 1)
        self.gate = nn.Linear(image_dim + clinical_dim, 1)

    def forward(
        self, bag: Float[Tensor, "b d"], clinical: Float[Tensor, "b k"]
    ) -> Float[Tensor, " b"]:
        gate = self.gate(torch.cat([bag, clinical], dim=1))
        return mixture_logit(gate, self.image(bag), self.clinical(clinical)).squeeze(1)


def mixture_logit(
    gate: Float[Tensor, "*b"], one: Float[Tensor, "*b"], other: Float[Tensor, "*b"]
) -> Float[Tensor, "*b"]:
    """The logit of sigmoid(gate) * sigmoid(one) + sigmoid(-gate) * sigmoid(other).

    In log space throughout: neither it nor its gradient overflows, however sure the experts are.
    """
    log_one, log_other = logsigmoid(gate), logsigmoid(-gate)
    log_p = torch.logaddexp(log_one + logsigmoid(one), log_other + logsigmoid(other))
    log_not_p = torch.logaddexp(log_one + logsigmoid(-one), log_other + logsigmoid(-other))
    return log_p - log_not_p


# Two experts who must both agree.


class ProductOfProbabilities(nn.Module):
    """p = sigmoid(image) * sigmoid(clinical): tumoral where both experts say so, a noisy-and.

    What comes out is the logit of p, in log space, with 1 - p = (1 - p_image) + p_image (1 -
    p_clinical). The product of experts of Hinton 2002, which divides by the sum over both labels,
    adds the two logits: that is `AdditiveLogit`.
    """

    uses_images = True

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__()
        self.image = image_head(image_dim)
        self.clinical = nn.Linear(clinical_dim, 1)

    def forward(
        self, bag: Float[Tensor, "b d"], clinical: Float[Tensor, "b k"]
    ) -> Float[Tensor, " b"]:
        image, other = self.image(bag), self.clinical(clinical)
        log_p = logsigmoid(image) + logsigmoid(other)
        log_not_p = torch.logaddexp(logsigmoid(-image), logsigmoid(image) + logsigmoid(-other))
        return (log_p - log_not_p).squeeze(1)
