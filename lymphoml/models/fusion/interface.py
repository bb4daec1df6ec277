"""What every fusion offers to the model and to training."""

from torch import nn

from lymphoml.core.types import Bags, Clinical, PerBag


class Fusion(nn.Module):
    """From a bag's vector (b d) and the clinical values (b k) to one logit a patient (b).

    A positive logit means tumoral. Constructed from `image_dim` d and `clinical_dim` k. Before
    training, each fold calls `fit_clinical` with the clinical values of its training patients and,
    where `fits_images` is true, `fit_images` with their pooled bags as well.
    """

    uses_images: bool = True  # false: no image is loaded, encoded or pooled, and the bag is None
    fits_images: bool = False
    takes_image_logit: bool = False  # the bag is one number, used as the logit of the images

    def fit_clinical(self, clinical: Clinical, label: PerBag, pos_weight: float) -> None:
        """Fit to the clinical values; `pos_weight` as in the loss. Does nothing by default."""

    def fit_images(self, bag: Bags, clinical: Clinical, label: PerBag, pos_weight: float) -> None:
        """Fit to pooled bags and clinical values. Does nothing by default."""
