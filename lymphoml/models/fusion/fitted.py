"""Late fusion by penalised logistic regression: logits of images and clinical values are added."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from lymphoml.core.types import Bags, Clinical, PerBag
from lymphoml.models.fusion.trained import Fusion

MAX_NEWTON_STEPS = 50  # fewer than ten are usual; only a single class never converges


class LateFusion(Fusion):
    """logit = image + clinical, both linear and 0 until fitted or trained.

    `penalty` and `image_penalty` weigh half the squared weights of a fitted part; None for a part
    that is not fitted. Raises ValueError unless above 0.
    """

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
        self.penalty: float = penalty
        self.image_penalty: Any = image_penalty

    def forward(self, bag: Bags, clinical: Clinical) -> PerBag:
        return (self.image(bag) + self.clinical(clinical)).squeeze(1)


class AdditiveLogit(LateFusion):
    """logit = image + clinical, the clinical part fitted first.

    A `penalty` of 1 is scikit-learn's default. The image part starts at 0, so training starts at
    the clinical model. `frozen` keeps the clinical part as fitted; otherwise it trains on from
    there. With an `image_penalty` the image part is fitted too, and stays as fitted.
    """

    def __init__(
        self, image_dim: int, clinical_dim: int, frozen: bool = True, penalty: float = 1.0,
        image_penalty: float | None = None,
    ):  # fmt: skip
        super().__init__(image_dim, clinical_dim, penalty, image_penalty)
        if image_penalty is not None and not frozen:
            raise ValueError("image_penalty fits on top of a clinical part that is frozen")
        self.clinical.requires_grad_(not frozen)
        self.fits_images = image_penalty is not None
        self.image.requires_grad_(not self.fits_images)

    def fit_clinical(self, clinical: Clinical, label: PerBag, pos_weight: float) -> None:
        assign_linear(self.clinical, *fit_logistic(clinical, label, pos_weight, self.penalty))

    def fit_images(self, bag: Bags, clinical: Clinical, label: PerBag, pos_weight: float) -> None:
        """Fit the image part with the clinical logit as offset."""
        offset = self.clinical(clinical).squeeze(1)
        assign_linear(self.image, *fit_bags(bag, label, pos_weight, self.image_penalty, offset))


class StackedLogit(LateFusion):
    """logit = weight * image + clinical: a logistic regression on both (Wolpert 1992).

    The image part is a logistic regression on the bags of all training patients. For the weight,
    each training patient's image logit comes from a model of the other `inner_folds`, since a model
    is overconfident about its own training patients. That logit at unit variance and the clinical
    values share `penalty`. Inner folds are stratified but not grouped by person.
    """

    fits_images = True

    def __init__(
        self, image_dim: int, clinical_dim: int, penalty: float = 1.0, image_penalty: float = 0.02,
        inner_folds: int = 5,
    ):  # fmt: skip
        super().__init__(image_dim, clinical_dim, penalty, image_penalty)
        if inner_folds < 2:
            raise ValueError(f"inner_folds is {inner_folds}; must be >= 2")
        self.requires_grad_(False)
        self.inner_folds = inner_folds

    def fit_images(self, bag: Bags, clinical: Clinical, label: PerBag, pos_weight: float) -> None:
        """Fit both parts to the training patients."""
        logits = self._out_of_fold_logits(bag, label, pos_weight)
        scale = logits.std(correction=0).clamp_min(torch.finfo(bag.dtype).tiny)
        both = torch.cat([(logits / scale).unsqueeze(1), clinical.double()], dim=1)
        weights, bias = fit_logistic(both, label, pos_weight, self.penalty)
        assign_linear(self.clinical, weights[1:], bias)
        image_weight = weights[0] / scale
        weight, bias = fit_bags(bag, label, pos_weight, self.image_penalty)
        assign_linear(self.image, image_weight * weight, image_weight * bias)

    def _out_of_fold_logits(self, bag: Bags, label: PerBag, pos_weight: float) -> PerBag:
        fold = torch.empty(len(label), dtype=torch.long)
        fold[label.argsort(stable=True)] = torch.arange(len(label)) % self.inner_folds
        logits = torch.zeros(len(label), dtype=torch.float64)
        for number in range(self.inner_folds):
            train, held_out = fold != number, fold == number
            weight, bias = fit_bags(bag[train], label[train], pos_weight, self.image_penalty)
            logits[held_out] = bag[held_out].double() @ weight + bias
        return logits


def assign_linear(layer: nn.Linear, weight: Float[Tensor, " k"], bias: Float[Tensor, " 1"]) -> None:
    layer.weight.data.copy_(weight.unsqueeze(0))
    layer.bias.data.copy_(bias)


def fit_bags(
    bag: Bags, label: PerBag, pos_weight: float, penalty: float, offset: PerBag | None = None
) -> tuple[Float[Tensor, " d"], Float[Tensor, " 1"]]:
    """`fit_logistic` in the span of bags, scaled to unit mean squared distance, in double."""
    center = bag.double().mean(0)
    centered = bag.double() - center
    scale = centered.square().sum(1).mean().sqrt().clamp_min(torch.finfo(bag.dtype).tiny)
    u, sizes, directions = torch.linalg.svd(centered / scale, full_matrices=False)
    weight, bias = fit_logistic(u * sizes, label, pos_weight, penalty, offset)
    weight = directions.T @ weight / scale
    return weight, bias - weight @ center


def fit_logistic(
    values: Clinical, label: PerBag, pos_weight: float, penalty: float, offset: PerBag | None = None
) -> tuple[Float[Tensor, " k"], Float[Tensor, " 1"]]:
    """Return weights and bias that minimise summed cross-entropy + penalty / 2 * weights^2.

    Patients of label 1 count `pos_weight` times; `offset` is added to the logit; 1 / penalty is
    scikit-learn's C. Newton's method with step halving, in double precision.
    """
    x = torch.cat([values, values.new_ones(len(values), 1)], dim=1).double()
    y, ridge = label.double(), torch.full((x.shape[1],), penalty, dtype=torch.float64)
    ridge[-1] = 0  # no penalty on the bias
    counts = torch.where(y == 1, pos_weight, 1.0).double()
    base = torch.zeros_like(y) if offset is None else offset.double()

    def loss(beta: Tensor) -> Tensor:
        total = binary_cross_entropy_with_logits(base + x @ beta, y, counts, reduction="sum")
        return total + 0.5 * (ridge * beta.square()).sum()

    beta = torch.zeros_like(ridge)
    for _ in range(MAX_NEWTON_STEPS):
        p = torch.sigmoid(base + x @ beta)
        gradient = x.T @ (counts * (p - y)) + ridge * beta
        hessian = x.T @ ((counts * p * (1 - p)).unsqueeze(1) * x) + ridge.diag()
        # A small diagonal: with a single class the bias has no curvature left.
        step = torch.linalg.solve(hessian + 1e-12 * torch.eye(len(beta)).to(beta), gradient)
        while loss(beta - step) > loss(beta) and step.abs().max() > 1e-12:
            step = step / 2
        beta = beta - step
        if step.abs().max() < 1e-10:
            break
    return beta[:-1].to(values), beta[-1:].to(values)
