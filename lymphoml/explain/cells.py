"""Which cells moved a patient's logit: the bag without each of them, and attention weights."""

from collections.abc import Iterable
from itertools import islice
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
    others = (each.nonzero().flatten() for each in ~torch.eye(count, dtype=torch.bool))
    whole = bag_logit(model, features, clinical)
    return whole - sub_bag_logits(model, features, clinical, others)


def sub_bag_logits(
    model: MILModel, features: Features, clinical: Float[Tensor, " k"], bags: Iterable[Tensor]
) -> Float[Tensor, " m"]:
    """Return the logit of each of `bags`, the places of their images in `features` (n d)."""
    size, left, logits = max(1, MOST_NUMBERS // features.numel()), iter(bags), []
    while part := list(islice(left, size)):
        lengths, patients = torch.tensor([*map(len, part)]), clinical.expand(len(part), -1)
        logits.append(model.classify(features[torch.cat(part)], lengths, patients))
    return torch.cat(logits)


def replaced_logits(
    model: MILModel, features: Features, clinical: Float[Tensor, " k"], image: int,
    changed: Float[Tensor, "m d"],
) -> Float[Tensor, " m"]:  # fmt: skip
    """Return the logit of the bag with each of `changed` in the place of one image."""
    count = len(features)
    bags = torch.arange(count).repeat(len(changed), 1)
    bags[:, image] += count - image + torch.arange(len(changed))
    return sub_bag_logits(model, torch.cat([features, changed]), clinical, bags)


def attention_weights(model: MILModel, features: Features) -> PerImage | None:
    """Return the weight that the pooling gives each image, which is no effect; None without any."""
    pooling: Any = model.pooling
    if not hasattr(pooling, "weights"):
        return None
    return pooling.weights(features, torch.tensor([len(features)]))
