"""Late fusion: the logit of the images on top of a clinical model that was fitted first."""

from jaxtyping import Float
from torch import Tensor, nn

from lymphoml.nn.fusion.logistic import fit_bags, fit_logistic


class AdditiveLogit(nn.Module):
    """logit = image + clinical, both linear.

    The clinical part is the logistic regression of `fit_clinical`, with squared weights as penalty
    (`penalty` times one half of their sum; 1 is scikit-learn's default). The image part starts at
    0, so training begins at the clinical model and learns what that leaves open. `frozen` keeps
    the clinical part as it was fitted; else it is trained on from there. With an `image_penalty`
    the image part is fitted as well, by `fit_images`, and stays as it is. Fitted weights are part
    of the checkpoint. Unfitted, either part is 0.
    """

    uses_images = True

    def __init__(
        self,
        image_dim: int,
        clinical_dim: int,
        frozen: bool = True,
        penalty: float = 1.0,
        image_penalty: float | None = None,
    ):
        super().__init__()
        for name, value in (("penalty", penalty), ("image_penalty", image_penalty)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; it must be above 0")
        if image_penalty is not None and not frozen:
            raise ValueError("image_penalty fits on top of a clinical part that is frozen")
        self.image = nn.Linear(image_dim, 1)
        self.clinical = nn.Linear(clinical_dim, 1)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        self.clinical.requires_grad_(not frozen)
        self.fits_images = image_penalty is not None
        self.image.requires_grad_(not self.fits_images)
        self.penalty, self.image_penalty = penalty, image_penalty

    def forward(
        self, bag: Float[Tensor, "b d"], clinical: Float[Tensor, "b k"]
    ) -> Float[Tensor, " b"]:
        return (self.image(bag) + self.clinical(clinical)).squeeze(1)

    def fit_clinical(
        self, clinical: Float[Tensor, "b k"], label: Float[Tensor, " b"], pos_weight: float
    ) -> None:
        """Fit the clinical part to the training patients; `pos_weight` as in the loss."""
        weight, bias = fit_logistic(clinical, label, pos_weight, self.penalty)
        self.clinical.weight.data.copy_(weight.unsqueeze(0))
        self.clinical.bias.data.copy_(bias)

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
        assert self.image_penalty is not None
        known = self.clinical(clinical).squeeze(1)
        weight, bias = fit_bags(bag, label, pos_weight, self.image_penalty, known)
        self.image.weight.data.copy_(weight.unsqueeze(0))
        self.image.bias.data.copy_(bias)
