"""Two experts who must both agree."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from lymphoml.nn.fusion.image_expert import image_expert


class ProductOfProbabilities(nn.Module):
    """p = sigmoid(image) * sigmoid(clinical): tumoral where both experts say so, a noisy-and.

    What comes out is the logit of p, in log space, with 1 - p = (1 - p_image) + p_image (1 -
    p_clinical). The product of experts of Hinton 2002, which divides by the sum over both labels,
    adds the two logits: that is `AdditiveLogit`.
    """

    uses_images = True

    def __init__(self, image_dim: int, clinical_dim: int):
        super().__init__()
        self.image = image_expert(image_dim)
        self.clinical = nn.Linear(clinical_dim, 1)

    def forward(
        self, bag: Float[Tensor, "b d"], clinical: Float[Tensor, "b k"]
    ) -> Float[Tensor, " b"]:
        image, other = self.image(bag), self.clinical(clinical)
        log_p = logsigmoid(image) + logsigmoid(other)
        log_not_p = torch.logaddexp(logsigmoid(-image), logsigmoid(image) + logsigmoid(-other))
        return (log_p - log_not_p).squeeze(1)
