"""Late fusion: the logit of the images on top of a clinical model that was fitted first."""

from jaxtyping import Float
from torch import Tensor, nn

from lymphoml.nn.fusion.logistic import fit_logistic


class AdditiveLogit(nn.Module):
    """logit = image + clinical, both linear.

    The clinical part is the logistic regression of `fit_clinical`, with squared weights as penalty
    (`penalty` times one half of their sum; 1 is scikit-learn's default). The image part starts at
    0, so training begins at the clinical model and learns what that leaves open. `frozen` keeps
    the clinical part as it was fitted; else it is trained on from there. Fitted weights are part of
    the checkpoint. Unfitted, the clinical part is 0.
    """

    uses_images = True

    def __init__(
        self, image_dim: int, clinical_dim: int, frozen: bool = True, penalty: float = 1.0
    ):
        super().__init__()
        if not penalty > 0:
            raise ValueError(f"penalty is {penalty}; it must be above 0")
        self.image = nn.Linear(image_dim, 1)
        self.clinical = nn.Linear(clinical_dim, 1)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        self.clinical.requires_grad_(not frozen)
        self.penalty = penalty

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
