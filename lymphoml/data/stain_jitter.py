"""Stain augmentation: as if every image had been stained a little longer or shorter, by each dye.

Colour deconvolution (Ruifrok and Johnston 2001) writes a pixel's optical density as a sum of stain
vectors; the concentrations are scaled and shifted, image by image (Tellez et al. 2018, "Whole-slide
mitosis detection in H&E breast histology").

The vectors are those of haematoxylin, eosin and DAB, as in scikit-image. Blood smears are stained
by May-Grünwald and Giemsa, whose dyes are azure and eosin, without haematoxylin or DAB. Here
the three are no more than a basis of colours: purple (nuclei), pink (red cells) and brown (left
over) change apart from each other, and no concentration means an amount of a dye.
"""

import torch
from jaxtyping import Float
from torch import Tensor

# Optical density a unit of haematoxylin, eosin and DAB, in red, green and blue.
RGB_FROM_HED = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
DARKEST = 1e-6  # of the light: black has a density, as in scikit-image


def jitter_stains(
    images: Float[Tensor, "n 3 h w"], amount: float, draws: Float[Tensor, "n 6"]
) -> Float[Tensor, "n 3 h w"]:
    """Each stain scaled by 1 ± `amount`, then shifted by up to ± `amount`; clipped to [0, 1].

    Concentrations c solve c · RGB_FROM_HED = -ln(light), so a shift of 0.1 is a tenth of a natural
    unit of optical density. Negative ones are kept, where scikit-image drops them: with `amount` 0
    every colour stays as it is.
    """
    vectors = images.new_tensor(RGB_FROM_HED)
    scale, shift = (amount * (2 * draws - 1)).chunk(2, dim=1)
    # density · inverse · diag(1 + scale) · vectors: one matrix an image, I and what is added to it.
    changed = torch.linalg.inv(vectors) @ (scale.unsqueeze(-1) * vectors)
    light = images.permute(0, 2, 3, 1)
    density = -light.clamp(min=DARKEST).log()
    added = density.flatten(1, 2) @ changed + (shift @ vectors).unsqueeze(1)
    return (light * (-added).exp().view_as(light)).clamp(0, 1).permute(0, 3, 1, 2)
