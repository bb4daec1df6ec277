"""Which cells moved a patient's logit: the bag without each of them, and attention weights."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lymphoml.core.types import Features, PerImage
from lymphoml.models.mil import MILModel

MOST_NUMBERS = 2**20  # of features at once, 4 MB: more leave the cache, at five times the time


def bag_logit(
    model: MILModel, features: Features, clinical: Float[Tensor, " k"]
) -> Float[Tensor, ""]:
    """Return the logit of one bag."""
    return model.classify(features, torch.tensor([len(features)]), clinical.unsqueeze(0)).squeeze(0)


def leave_one_out(model: MILModel, features: Features, clinical: Float[Tensor, " k"]) -> PerImage:
    """Return the logit of the bag less that of the bag without each image; above 0: for tumoral.

    NaN for the only image of a bag: without it there is no bag.
    """
    count = len(features)
    if count == 1:
        return features.new_full((1,), torch.nan)
    whole, effects = bag_logit(model, features, clinical), []
    size = max(1, MOST_NUMBERS // (count * features.shape[1]))
    for left_out in torch.arange(count, device=features.device).split(size):
        others = torch.arange(count - 1, device=features.device).repeat(len(left_out), 1)
        others += others >= left_out.unsqueeze(1)
        lengths = torch.full((len(left_out),), count - 1)
        patients = clinical.expand(len(left_out), -1)
        effects.append(whole - model.classify(features[others.flatten()], lengths, patients))
    return torch.cat(effects)


def attention_weights(model: MILModel, features: Features) -> PerImage | None:
    """Return the weight that the pooling gives each image, which is no effect; None without any."""
    pooling: Any = model.pooling
    if not hasattr(pooling, "weights"):
        return None
    return pooling.weights(features, torch.tensor([len(features)]))
