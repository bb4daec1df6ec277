"""Late fusion: the logit of the images on top of a clinical model that was fitted first."""

from jaxtyping import Float
from torch import Tensor

from lymphoml.nn.fusion.linear_parts import LinearParts, set_part
from lymphoml.nn.fusion.logistic import fit_logistic


class AdditiveLogit(LinearParts):
    """logit = image + clinical, both linear.

    The clinical part is the logistic regression of `fit_clinical`, with squared weights as penalty
    (`penalty` times one half of their sum; 1 is scikit-learn's default). The image part starts at
    0, so training begins at the clinical model and learns what that leaves open. `frozen` keeps
    the clinical part as it was fitted; else it is trained on from there. With an `image_penalty`
    the image part is fitted as well, by `fit_images`, and stays as it is. Fitted weights are part
    of the checkpoint. Unfitted, either part is 0.
    """

    def __init__(
        self,
        image_dim: int,
        clinical_dim: int,
        frozen: bool = True,
        penalty: float = 1.0,
        image_penalty: float | None = None,
    ):
        super().__init__(image_dim, clinical_dim, penalty, image_penalty)
        if image_penalty is not None and not frozen:
            raise ValueError("image_penalty fits on top of a clinical part that is frozen")
        self.clinical.requires_grad_(not frozen)
        self.fits_images = image_penalty is not None
        self.image.requires_grad_(not self.fits_images)

    def fit_clinical(
        self, clinical: Float[Tensor, "b k"], label: Float[Tensor, " b"], pos_weight: float
    ) -> None:
        """Fit the clinical part to the training patients; `pos_weight` as in the loss."""
        set_part(self.clinical, *fit_logistic(clinical, label, pos_weight, self.penalty))

    def fit_images(
        self,
        bag: Float[Tensor, "b d"],
        clinical: Float[Tensor, "b k"],
        label: Float[Tensor, " b"],
        pos_weight: float,
    ) -> None:
        """Fit the image part to the training patients, the clinical logit being known.

        A logistic regression with `image_penalty` as its penalty on squared weights, in units in
        which bags lie at a mean squared distance of 1 from their mean.
        """
        known = self.clinical(clinical).squeeze(1)
        set_part(self.image, *self.fitted_image(bag, label, pos_weight, known))
