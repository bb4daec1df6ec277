"""Fusions: from a bag's vector (b d) and the clinical values (b k) to one logit a patient (b).

A positive logit says tumoral. `uses_images` says whether the bag is looked at; where it is not,
no image is loaded, encoded or pooled.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid


class NoClinical(nn.Module):
    """Images only: one linear layer over the bag."""

    uses_images = True

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__()
        self.image = nn.Linear(image_dim, 1)

    def forward(
        self, bag: Float[Tensor, "b d"], clinical: Float[Tensor, "b k"]
    ) -> Float[Tensor, " b"]:
        return self.image(bag).squeeze(1)


class ClinicalOnly(nn.Module):
    """No images: logistic regression on the clinical values, the floor to beat."""

    uses_images = False

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__()
        self.clinical = nn.Linear(clinical_dim, 1)

    def forward(
        self, bag: Float[Tensor, "b d"] | None, clinical: Float[Tensor, "b k"]
    ) -> Float[Tensor, " b"]:
        return self.clinical(clinical).squeeze(1)


class Concat(nn.Module):
    """One linear layer over the bag and the clinical values side by side, as in the report.

    `equal_parts` multiplies the k clinical values by sqrt(d / k): of one scale with the d features
    of the bag, they are then as large a part of the layer's input. A gradient step moves a part of
    the logit by that part's squared norm, so without it two clinical values learn d / k times
    slower than the images.
    """

    uses_images = True

    def __init__(self, image_dim: int, clinical_dim: int, equal_parts: bool = False):
        super().__init__()
        self.both = nn.Linear(image_dim + clinical_dim, 1)
        self.clinical_scale = (image_dim / max(clinical_dim, 1)) ** 0.5 if equal_parts else 1.0

    def forward(
        self, bag: Float[Tensor, "b d"], clinical: Float[Tensor, "b k"]
    ) -> Float[Tensor, " b"]:
        return self.both(torch.cat([bag, self.clinical_scale * clinical], dim=1)).squeeze(1)


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
        self.image = nn.Linear(image_dim, 1)
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
