"""Multiple-instance learning: encode every image, pool each bag, fuse with the clinical values."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lymphoml.models.bag_augmentation import Mixup, drop_instances
from lymphoml.models.chunking import encode_in_chunks
from lymphoml.models.pooling.instance_scores import Scorer
from lymphoml.models.segments import at_least_single


class MILModel(nn.Module):
    """Encoder -> pooling -> fusion -> one logit a bag.

    Encoder and pooling are None where `fusion.uses_images` is false; the images may then be an
    empty tensor. In training each instance is left out of its bag with probability
    `instance_dropout`. Pooling and fusion cost nothing, and what they give is the result: they are
    never computed in half precision. A bag larger than memory goes through `embed` in chunks, then
    through `classify`, which is what `forward` does in one go.
    """

    def __init__(
        self,
        encoder: nn.Module | None,
        pooling: nn.Module | None,
        fusion: nn.Module,
        instance_dropout: float = 0.0,
    ):
        if not 0 <= instance_dropout < 1:
            raise ValueError(f"instance_dropout is {instance_dropout}; allowed is 0 to below 1")
        takes_logit = isinstance(getattr(fusion, "image", None), nn.Identity)
        if takes_logit and not isinstance(pooling, Scorer):
            raise ValueError(
                "the encoder gives one number an image, which this fusion takes for a logit; take "
                "an encoder of two or more, or model/fusion=concat, additive or film"
            )
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.fusion = fusion
        self.instance_dropout = instance_dropout

    def forward(
        self,
        images: Float[Tensor, "n c h w"] | Float[Tensor, "n d"],
        lengths: Int[Tensor, " b"],
        clinical: Float[Tensor, "b k"],
    ) -> Float[Tensor, " b"]:
        return self.classify(self.embed(images), lengths, clinical)

    def embed(
        self,
        images: Tensor,
        *per_image: Tensor,
        view: Callable[..., Tensor] = lambda images: images,
        chunk_size: int | None = None,
    ) -> Float[Tensor, "n d"] | None:
        """The features of each image, whatever bag it is in; None where no image is looked at.

        The encoder sees `view(images, *per_image)`, `chunk_size` images at a time.
        """
        if self.encoder is None:
            return None
        return encode_in_chunks(self.encoder, view, chunk_size, images, *per_image)

    def pool(
        self, features: Float[Tensor, "n d"] | None, lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b e"] | None:
        """Each bag's vector; None where no image is looked at."""
        if self.pooling is None or features is None:
            return None
        with torch.autocast(features.device.type, enabled=False):
            return self.pooling(at_least_single(features), lengths)

    def classify(
        self,
        features: Float[Tensor, "n d"] | None,
        lengths: Int[Tensor, " b"],
        clinical: Float[Tensor, "b k"],
        mixup: Mixup | None = None,
    ) -> Float[Tensor, " b"]:
        """The logit of each bag, from the features of its images; of blends of them by `mixup`."""
        if features is not None and self.training and self.instance_dropout:
            features, lengths = drop_instances(features, lengths, self.instance_dropout)
        bag = self.pool(features, lengths)
        if mixup is not None:
            bag, clinical = None if bag is None else mixup(bag), mixup(clinical)
        with torch.autocast(clinical.device.type, enabled=False):
            return self.fusion(bag, clinical)
