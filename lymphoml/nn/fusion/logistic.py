"""Logistic regression, fitted to the last digit: the same on every machine and in every order."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

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
