"""Instance dropout: in training a bag goes without some of its instances, whatever its pooling."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


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
