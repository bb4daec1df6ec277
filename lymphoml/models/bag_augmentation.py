"""Mixup of bags: in training a patient is blended with another one of the same step."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Mixup(NamedTuple):
    """Which bag each bag of a step is blended with, and how much of its own it keeps.

    Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", applied to what the fusion sees
    and to the label: pooled bag, clinical values and label of a patient take the same share, so
    that a clinical logit that was fitted beforehand, being linear, is blended as they are. A bag
    made of the instances of two would be no such blend: one tumoral instance makes a bag tumoral
    whatever its share, and the spread of two bags together is none of the two.
    """

    partner: Int[Tensor, " b"]
    kept: Float[Tensor, " b"]

    def __call__(self, values: Float[Tensor, "b *d"]) -> Float[Tensor, "b *d"]:
        kept = self.kept.to(values).view(-1, *[1] * (values.dim() - 1))
        # lerp, so that a bag blended with itself keeps its bits.
        return torch.lerp(values[self.partner.to(values.device)], values, kept)


def draw_mixup(bags: int, alpha: float) -> Mixup:
    """For a step of `bags`: partners are a permutation, shares drawn from Beta(alpha, alpha).

    The draws are the global CPU generator's, which is re-seeded at every batch: they are the same
    on every device and in a fold that was resumed.
    """
    concentration = torch.full((bags,), alpha)
    kept = torch.distributions.Beta(concentration, concentration).sample()
    return Mixup(torch.randperm(bags), kept)


# Instance dropout: in training a bag goes without some of its instances, whatever its pooling.


def drop_instances(
    features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"], probability: float
) -> tuple[Float[Tensor, "m d"], Int[Tensor, " b"]]:
    """Features and lengths without the instances that were drawn, each with `probability`.

    A bag that would lose every instance keeps the one that was drawn last. The draws are the
    global CPU generator's, which is re-seeded at every batch: they are the same on every device
    and in a fold that was resumed.
    """
    draws = torch.rand(len(features)).split(lengths.tolist())
    kept = [(draw >= probability) | (draw == draw.max()) for draw in draws]
    lengths = torch.stack([keep.sum() for keep in kept]).to(lengths)
    return features[torch.cat(kept).to(features.device)], lengths
