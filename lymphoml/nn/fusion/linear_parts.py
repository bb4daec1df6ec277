"""What late fusions share: a linear part for the images and one for the clinical values, added."""

from jaxtyping import Float
from torch import Tensor, nn

from lymphoml.nn.fusion.logistic import fit_bags


class LinearParts(nn.Module):
    """logit = image + clinical, either part 0 until it is fitted or trained.

    Penalties, None where there is none, are on squared weights: ValueError unless above 0.
    """

    uses_images = True

    def __init__(
        self, image_dim: int, clinical_dim: int, penalty: float, image_penalty: float | None
    ):
        super().__init__()
        for name, value in (("penalty", penalty), ("image_penalty", image_penalty)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; it must be above 0")
        self.image = nn.Linear(image_dim, 1)
        self.clinical = nn.Linear(clinical_dim, 1)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        self.penalty, self.image_penalty = penalty, image_penalty

    def forward(
        self, bag: Float[Tensor, "b d"], clinical: Float[Tensor, "b k"]
    ) -> Float[Tensor, " b"]:
        return (self.image(bag) + self.clinical(clinical)).squeeze(1)

    def fitted_image(
        self,
        bag: Float[Tensor, "b d"],
        label: Float[Tensor, " b"],
        pos_weight: float,
        offset: Float[Tensor, " b"] | None = None,
    ) -> tuple[Float[Tensor, " d"], Float[Tensor, " 1"]]:
        """Weights and bias of `fit_bags` under `image_penalty`."""
        assert self.image_penalty is not None
        return fit_bags(bag, label, pos_weight, self.image_penalty, offset)


def set_part(part: nn.Linear, weight: Float[Tensor, " k"], bias: Float[Tensor, " 1"]) -> None:
    """Give a part what was fitted."""
    part.weight.data.copy_(weight.unsqueeze(0))
    part.bias.data.copy_(bias)
