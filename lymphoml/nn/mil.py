"""Multiple-instance learning: encode every image, pool each bag, fuse with the clinical values."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class MILModel(nn.Module):
    """Encoder -> pooling -> fusion -> one logit a bag.

    Encoder and pooling are None where `fusion.uses_images` is false; the images may then be an
    empty tensor. A cohort larger than memory is evaluated in pieces: `embed` chunks of images,
    then `classify` the concatenated features, which is what `forward` does in one go.
    """

    def __init__(self, encoder: nn.Module | None, pooling: nn.Module | None, fusion: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.fusion = fusion

    def forward(
        self,
        images: Float[Tensor, "n c h w"],
        lengths: Int[Tensor, " b"],
        clinical: Float[Tensor, "b k"],
    ) -> Float[Tensor, " b"]:
        return self.classify(self.embed(images), lengths, clinical)

    def embed(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"] | None:
        """The features of each image, whatever bag it is in; None where no image is looked at."""
        return None if self.encoder is None else self.encoder(images)

    def classify(
        self,
        features: Float[Tensor, "n d"] | None,
        lengths: Int[Tensor, " b"],
        clinical: Float[Tensor, "b k"],
    ) -> Float[Tensor, " b"]:
        """The logit of each bag, from the features of its images."""
        bag = None if self.pooling is None else self.pooling(features, lengths)
        # The fusion costs nothing and its logits are the result: never in half precision.
        with torch.autocast(clinical.device.type, enabled=False):
            return self.fusion(bag, clinical)
