"""Multiple-instance learning: encode every image, pool each bag, fuse with the clinical values."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lymphoml.core.types import Clinical, Features, Lengths, PerBag, Pixels
from lymphoml.models.chunking import encode_in_chunks
from lymphoml.models.fusion.trained import Fusion
from lymphoml.models.pooling.instance_scores import InstanceScorer
from lymphoml.models.segments import at_least_single


class MILModel(nn.Module):
    """Encoder -> pooling -> fusion -> one logit a bag.

    Encoder and pooling are None where `fusion.uses_images` is false; the images may then be an
    empty tensor. In training each instance is dropped from its bag with probability
    `instance_dropout`. Pooling and fusion run in single precision also under autocast.
    """

    def __init__(
        self, encoder: nn.Module | None, pooling: nn.Module | None, fusion: Fusion,
        instance_dropout: float = 0.0,
    ):  # fmt: skip
        if not 0 <= instance_dropout < 1:
            raise ValueError(f"instance_dropout is {instance_dropout}; must be >= 0 and < 1")
        if fusion.takes_image_logit and not isinstance(pooling, InstanceScorer):
            raise ValueError(
                "the encoder gives one number an image, which this fusion takes for a logit; use "
                "an encoder of two or more, or model/fusion=concat, additive or film"
            )
        super().__init__()
        self.encoder, self.pooling, self.fusion = encoder, pooling, fusion
        self.instance_dropout = instance_dropout

    def forward(self, images: Pixels | Features, lengths: Lengths, clinical: Clinical) -> PerBag:
        return self.classify(self.embed(images), lengths, clinical)

    def embed(
        self, images: Tensor, *per_image: Tensor,
        transform: Callable[..., Tensor] = lambda images: images, chunk_size: int | None = None,
    ) -> Features | None:  # fmt: skip
        """Encode `transform(images, *per_image)`, `chunk_size` at a time; None without images."""
        if self.encoder is None:
            return None
        return encode_in_chunks(self.encoder, transform, chunk_size, images, *per_image)

    def pool(self, features: Features | None, lengths: Lengths) -> Float[Tensor, "b e"] | None:
        """Return each bag's vector; None where no images are used."""
        if self.pooling is None or features is None:
            return None
        with torch.autocast(features.device.type, enabled=False):
            return self.pooling(at_least_single(features), lengths)

    def classify(self, features: Features | None, lengths: Lengths, clinical: Clinical) -> PerBag:
        """Return the logit of each bag, from the features of its images."""
        if features is not None and self.training and self.instance_dropout:
            features, lengths = drop_instances(features, lengths, self.instance_dropout)
        bag = self.pool(features, lengths)
        with torch.autocast(clinical.device.type, enabled=False):
            return self.fusion(bag, clinical)


def drop_instances(
    features: Features, lengths: Lengths, probability: float
) -> tuple[Float[Tensor, "m d"], Lengths]:
    """Return features and lengths without those dropped by `probability`; one a bag stays."""
    draws = torch.rand(len(features)).split(lengths.tolist())
    kept = [(draw >= probability) | (draw == draw.max()) for draw in draws]
    lengths = torch.stack([keep.sum() for keep in kept]).to(lengths)
    return features[torch.cat(kept).to(features.device)], lengths
