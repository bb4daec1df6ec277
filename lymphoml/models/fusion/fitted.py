"""Late fusion: how far the images are to be trusted beside the clinical values, by inner folds."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

# Logistic regression, fitted to the last digit: the same on every machine and in every order.

STEPS = 50  # Newton's method takes fewer than ten; only a single class never settles


def fit_logistic(
    values: Float[Tensor, "b k"],
    label: Float[Tensor, " b"],
    pos_weight: float,
    penalty: float,
    offset: Float[Tensor, " b"] | None = None,
) -> tuple[Float[Tensor, " k"], Float[Tensor, " 1"]]:
    """Weights and bias that minimise the summed cross-entropy + penalty / 2 * |weights|^2.

    Patients of label 1 count `pos_weight` times; `offset` is a logit that each has beforehand.
    Newton's method in double precision, a step halved as long as it does not improve: 1 / penalty
    is scikit-learn's C.
    """
    x = torch.cat([values, values.new_ones(len(values), 1)], dim=1).double()
    y, ridge = label.double(), torch.full((x.shape[1],), penalty, dtype=torch.float64)
    ridge[-1] = 0  # the bias is free
    counts = torch.where(y == 1, pos_weight, 1.0).double()
    known = torch.zeros_like(y) if offset is None else offset.double()

    def loss(beta: Tensor) -> Tensor:
        each = binary_cross_entropy_with_logits(known + x @ beta, y, counts, reduction="sum")
        return each + 0.5 * (ridge * beta.square()).sum()

    beta = torch.zeros_like(ridge)
    for _ in range(STEPS):
        p = torch.sigmoid(known + x @ beta)
        gradient = x.T @ (counts * (p - y)) + ridge * beta
        curvature = x.T @ ((counts * p * (1 - p)).unsqueeze(1) * x) + ridge.diag()
        # A hair on the diagonal: with a single class the bias has no curvature left.
        step = torch.linalg.solve(curvature + 1e-12 * torch.eye(len(beta)).to(beta), gradient)
        while loss(beta - step) > loss(beta) and step.abs().max() > 1e-12:
            step = step / 2
        beta = beta - step
        if step.abs().max() < 1e-10:
            break
    return beta[:-1].to(values), beta[-1:].to(values)


def fit_bags(
    bag: Float[Tensor, "b d"],
    label: Float[Tensor, " b"],
    pos_weight: float,
    penalty: float,
    offset: Float[Tensor, " b"] | None = None,
) -> tuple[Float[Tensor, " d"], Float[Tensor, " 1"]]:
    """Likewise for bags, in units in which their mean squared distance from their mean is 1.

    The weights lie in the span of the bags, so they are fitted in that span, as those of kernel
    logistic regression with a linear kernel are, however wide a bag's vector. In double precision.
    """
    centre = bag.double().mean(0)
    apart = bag.double() - centre
    unit = apart.square().sum(1).mean().sqrt().clamp_min(torch.finfo(bag.dtype).tiny)
    left, sizes, directions = torch.linalg.svd(apart / unit, full_matrices=False)
    weight, bias = fit_logistic(left * sizes, label, pos_weight, penalty, offset)
    weight = directions.T @ weight / unit
    return weight, bias - weight @ centre


# What late fusions share: a linear part for the images and one for the clinical values, added.


class LateFusion(nn.Module):
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


def assign_linear(part: nn.Linear, weight: Float[Tensor, " k"], bias: Float[Tensor, " 1"]) -> None:
    """Give a part what was fitted."""
    part.weight.data.copy_(weight.unsqueeze(0))
    part.bias.data.copy_(bias)


class StackedLogit(LateFusion):
    """logit = weight * image + clinical: a logistic regression on both (Wolpert 1992).

    The image part is a logistic regression on the bags alone (`image_penalty`, in units in which
    they lie at a mean squared distance of 1 from their mean). A training patient's image logit
    comes from a model of the `inner_folds` that did not train on that patient, as no model has
    trained on a held-out one: the patient's own would be bolder, and be trusted too much. So
    weighed, with `penalty` on the squared weights of that logit at unit variance and of the
    clinical values, the image part of all training patients is what stays. All of it is fitted, by
    `fit_images`; unfitted it is 0. Inner folds are stratified, and of patients: a person with two
    records may be in two of them.
    """

    fits_images = True

    def __init__(
        self,
        image_dim: int,
        clinical_dim: int,
        penalty: float = 1.0,
        image_penalty: float = 0.02,
        inner_folds: int = 5,
    ):
        super().__init__(image_dim, clinical_dim, penalty, image_penalty)
        if inner_folds < 2:
            raise ValueError(f"inner_folds is {inner_folds}; allowed are 2 or more")
        self.requires_grad_(False)
        self.inner_folds = inner_folds

    def fit_images(
        self,
        bag: Float[Tensor, "b d"],
        clinical: Float[Tensor, "b k"],
        label: Float[Tensor, " b"],
        pos_weight: float,
    ) -> None:
        """Fit both parts to the training patients; `pos_weight` as in the loss."""
        unseen = self._unseen_logits(bag, label, pos_weight)
        unit = unseen.std(correction=0).clamp_min(torch.finfo(bag.dtype).tiny)
        both = torch.cat([(unseen / unit).unsqueeze(1), clinical.double()], dim=1)
        weights, bias = fit_logistic(both, label, pos_weight, self.penalty)
        assign_linear(self.clinical, weights[1:], bias)
        trust = weights[0] / unit
        weight, bias = self.fitted_image(bag, label, pos_weight)
        assign_linear(self.image, trust * weight, trust * bias)

    def _unseen_logits(
        self, bag: Float[Tensor, "b d"], label: Float[Tensor, " b"], pos_weight: float
    ) -> Float[Tensor, " b"]:
        """Each patient's image logit by a model of the other inner folds."""
        fold = torch.empty(len(label), dtype=torch.long)
        fold[label.argsort(stable=True)] = torch.arange(len(label)) % self.inner_folds
        logits = torch.zeros(len(label), dtype=torch.float64)
        for each in range(self.inner_folds):
            train, held_out = fold != each, fold == each
            weight, bias = self.fitted_image(bag[train], label[train], pos_weight)
            logits[held_out] = bag[held_out].double() @ weight + bias
        return logits


# Late fusion: the logit of the images on top of a clinical model that was fitted first.


class AdditiveLogit(LateFusion):
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
        assign_linear(self.clinical, *fit_logistic(clinical, label, pos_weight, self.penalty))

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
        assign_linear(self.image, *self.fitted_image(bag, label, pos_weight, known))
