"""Fusions trained by gradient steps, and what every fusion offers to the model and to training."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from lymphoml.core.types import Bags, Clinical, PerBag


class Fusion(nn.Module):
    """From a bag's vector (b d) and the clinical values (b k) to one logit a patient (b).

    A positive logit means tumoral. Constructed from `image_dim` d and `clinical_dim` k. Before
    training, each fold calls `fit_clinical` with the clinical values of its training patients and,
    where `fits_images` is true, `fit_images` with their pooled bags as well.
    """

    uses_clinical: bool = True
    uses_images: bool = True  # false: no image is loaded, encoded or pooled, and the bag is None
    fits_images: bool = False
    takes_image_logit: bool = False  # the bag is one number, used as the logit of the images

    def fit_clinical(self, clinical: Clinical, label: PerBag, pos_weight: float) -> None:
        """Fit to the clinical values; `pos_weight` as in the loss. Does nothing by default."""

    def fit_images(self, bag: Bags, clinical: Clinical, label: PerBag, pos_weight: float) -> None:
        """Fit to pooled bags and clinical values. Does nothing by default."""


class ImageLogit(Fusion):
    """A fusion of which the images' part is a logit of their own, linear in the bag.

    A bag of one number is a logit already: a layer on top could flip its sign, and with it the
    assumption that a positive instance makes a bag positive.
    """

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__()
        self.takes_image_logit = image_dim == 1
        self.image = nn.Identity() if self.takes_image_logit else nn.Linear(image_dim, 1)


class NoClinical(ImageLogit):
    """Images only: one linear layer over the bag."""

    uses_clinical = False

    def forward(self, bag: Bags, clinical: Clinical) -> PerBag:
        return self.image(bag).squeeze(1)


class ClinicalOnly(Fusion):
    """Clinical values only: logistic regression, the baseline to beat."""

    uses_images = False

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__()
        self.clinical = nn.Linear(clinical_dim, 1)

    def forward(self, bag: Bags | None, clinical: Clinical) -> PerBag:
        return self.clinical(clinical).squeeze(1)


class Concat(Fusion):
    """One linear layer over the bag concatenated with the clinical values, as in the paper.

    `equal_parts` multiplies the k clinical values by sqrt(d / k), d the features of the bag:
    without, they learn d / k times slower, since a step moves the logit by a part's squared norm.
    """

    def __init__(self, image_dim: int, clinical_dim: int, equal_parts: bool = False):
        super().__init__()
        self.both = nn.Linear(image_dim + clinical_dim, 1)
        self.clinical_scale = (image_dim / max(clinical_dim, 1)) ** 0.5 if equal_parts else 1.0

    def forward(self, bag: Bags, clinical: Clinical) -> PerBag:
        return self.both(torch.cat([bag, self.clinical_scale * clinical], dim=1)).squeeze(1)


class FiLM(Fusion):
    """logit = w^T ((1 + γ) * z + β) + b, with scale γ and shift β linear in the clinical values.

    Feature-wise linear modulation of the pooled features z (Perez et al. 2018, "FiLM: Visual
    Reasoning with a General Conditioning Layer"). γ and β start at 0: a model of the images alone.
    """

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__()
        self.modulation = nn.Linear(clinical_dim, 2 * image_dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.image = nn.Linear(image_dim, 1)

    def forward(self, bag: Bags, clinical: Clinical) -> PerBag:
        gamma, beta = self.modulation(clinical).chunk(2, dim=1)
        return self.image(torch.addcmul(bag + beta, gamma, bag)).squeeze(1)


class MixtureOfExperts(ImageLogit):
    """logit of p = π * sigmoid(image) + (1 - π) * sigmoid(clinical), with π = sigmoid(gate).

    The gate is linear in both inputs. Sahasrabudhe et al. 2020, "Deep Multi-Instance Learning Using
    Multi-Modal Data for Diagnosis of Lymphocytosis".
    """

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__(image_dim, clinical_dim)
        self.clinical = nn.Linear(clinical_dim, 1)
        self.gate = nn.Linear(image_dim + clinical_dim, 1)

    def forward(self, bag: Bags, clinical: Clinical) -> PerBag:
        gate = self.gate(torch.cat([bag, clinical], dim=1))
        return mixture_logit(gate, self.image(bag), self.clinical(clinical)).squeeze(1)


def mixture_logit(
    gate: Float[Tensor, "*b"], first: Float[Tensor, "*b"], second: Float[Tensor, "*b"]
) -> Float[Tensor, "*b"]:
    """Return the logit of sigmoid(gate) sigmoid(first) + sigmoid(-gate) sigmoid(second)."""
    log_first, log_second = logsigmoid(gate), logsigmoid(-gate)
    log_p = torch.logaddexp(log_first + logsigmoid(first), log_second + logsigmoid(second))
    log_not_p = torch.logaddexp(log_first + logsigmoid(-first), log_second + logsigmoid(-second))
    return log_p - log_not_p


class ProductOfProbabilities(ImageLogit):
    """logit of p = sigmoid(image) * sigmoid(clinical): a noisy-and, tumoral where both say so.

    With 1 - p = (1 - p_image) + p_image (1 - p_clinical). The product of experts of Hinton 2002,
    which normalises over both labels, adds the two logits: that is `AdditiveLogit`.
    """

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__(image_dim, clinical_dim)
        self.clinical = nn.Linear(clinical_dim, 1)

    def forward(self, bag: Bags, clinical: Clinical) -> PerBag:
        image, other = self.image(bag), self.clinical(clinical)
        log_p = logsigmoid(image) + logsigmoid(other)
        log_not_p = torch.logaddexp(logsigmoid(-image), logsigmoid(image) + logsigmoid(-other))
        return (log_p - log_not_p).squeeze(1)
