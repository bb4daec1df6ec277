"""Fusions against their formulas, and fitted ones against scikit-learn."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F

from lymphoml.models.fusion import (
    AdditiveLogit,
    ClinicalOnly,
    Concat,
    FiLM,
    MixtureOfExperts,
    NoClinical,
    ProductOfProbabilities,
    StackedLogit,
)
from lymphoml.models.fusion.fitted import fit_logistic
from lymphoml.models.fusion.trained import mixture_logit

IMAGE, CLINICAL = 5, 3


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(4, IMAGE, dtype=torch.float64), torch.randn(4, CLINICAL, dtype=torch.float64)


def test_one_input_alone_is_a_linear_score():
    bag, clinical = inputs()
    fusion = NoClinical(IMAGE, CLINICAL).double()
    assert torch.equal(fusion(bag, clinical), F.linear(bag, *fusion.image.parameters())[:, 0])
    fusion = ClinicalOnly(0, CLINICAL).double()
    assert not fusion.uses_images
    assert torch.equal(
        fusion(None, clinical), F.linear(clinical, *fusion.clinical.parameters())[:, 0]
    )


@pytest.mark.parametrize(("equal_parts", "scale"), [(False, 1), (True, (IMAGE / CLINICAL) ** 0.5)])
def test_concat_is_the_sum_of_two_linear_scores(equal_parts, scale):
    fusion, (bag, clinical) = Concat(IMAGE, CLINICAL, equal_parts).double(), inputs()
    weight, bias = fusion.both.weight[0], fusion.both.bias
    expected = bag @ weight[:IMAGE] + scale * clinical @ weight[IMAGE:] + bias
    torch.testing.assert_close(fusion(bag, clinical), expected)


def direct(gate, first, second):
    pi = torch.sigmoid(gate)
    return pi * torch.sigmoid(first) + (1 - pi) * torch.sigmoid(second)


def test_mixture_mixes_and_product_multiplies_the_experts_probabilities():
    fusion, (bag, clinical) = MixtureOfExperts(IMAGE, CLINICAL).double(), inputs()
    both = torch.cat([bag, clinical], dim=1)
    p = direct(fusion.gate(both), fusion.image(bag), fusion.clinical(clinical))[:, 0]
    torch.testing.assert_close(torch.sigmoid(fusion(bag, clinical)), p)
    fusion = ProductOfProbabilities(IMAGE, CLINICAL).double()
    p = torch.sigmoid(fusion.image(bag)) * torch.sigmoid(fusion.clinical(clinical))
    torch.testing.assert_close(torch.sigmoid(fusion(bag, clinical)), p[:, 0])


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_experts_learn_from_the_surest_mistakes(label):
    sure = torch.tensor([-1e4, -200.0, 0.0, 200.0, 1e4])
    logits = torch.cartesian_prod(sure, sure, sure).T.clone().requires_grad_()
    product = ProductOfProbabilities(1, 1)
    nn.init.ones_(product.clinical.weight)
    for fused in (mixture_logit(*logits), product(logits[0].unsqueeze(1), logits[1].unsqueeze(1))):
        logits.grad = None
        F.binary_cross_entropy_with_logits(fused, torch.full_like(fused, label)).backward()
        assert fused.isfinite().all()
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("fusion", [NoClinical, MixtureOfExperts, ProductOfProbabilities])
def test_a_pooling_of_scores_gives_the_image_logit_itself(fusion):
    """A layer could flip its sign."""
    assert list(fusion(1, CLINICAL).image.parameters()) == []
    assert fusion(1, CLINICAL).takes_image_logit
    assert not fusion(2, CLINICAL).takes_image_logit


def test_film_modulates_feature_by_feature():
    fusion, (bag, clinical) = FiLM(IMAGE, CLINICAL).double(), inputs()
    assert torch.equal(fusion(bag, clinical), fusion.image(bag)[:, 0])  # before training
    nn.init.normal_(fusion.modulation.weight)
    nn.init.normal_(fusion.modulation.bias)
    weight, bias = fusion.image.weight[0], fusion.image.bias
    for logit, z, c in zip(fusion(bag, clinical), bag, clinical, strict=True):
        modulation = fusion.modulation.weight @ c + fusion.modulation.bias
        gamma, beta = modulation[:IMAGE], modulation[IMAGE:]
        expected = sum(weight[i] * ((1 + gamma[i]) * z[i] + beta[i]) for i in range(IMAGE)) + bias
        torch.testing.assert_close(logit, expected[0])


def patients(count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(4)
    clinical = torch.randn(count, CLINICAL)
    label = (clinical[:, 0] - clinical[:, 1] + torch.randn(count) > 0.5).float()
    return clinical, label


@pytest.mark.parametrize(("pos_weight", "penalty", "scale"), [
    (1.0, 1.0, 1.0), (0.4, 1e-3, 1.0), (0.4, 1.0, 100.0),  # years and counts without scaling
])  # fmt: skip
def test_fit_logistic_equals_scikit_learn(pos_weight, penalty, scale):
    clinical, label = patients()
    clinical = scale * clinical + scale
    weight, bias = fit_logistic(clinical, label, pos_weight, penalty)
    model = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000, solver="newton-cholesky")
    counts = [pos_weight if positive else 1.0 for positive in label]
    model.fit(clinical.double().numpy(), label.numpy(), sample_weight=counts)
    assert weight.tolist() == pytest.approx(model.coef_[0].tolist(), rel=1e-4, abs=1e-6)
    assert bias.item() == pytest.approx(model.intercept_[0], rel=1e-4, abs=1e-5)


def test_a_single_class_or_no_clinical_value_still_fits():
    clinical, label = patients()
    weight, bias = fit_logistic(clinical, torch.ones_like(label), 1.0, 1.0)
    assert weight.isfinite().all()
    assert bias.isfinite()
    _, bias = fit_logistic(clinical[:, :0], label, 1.0, 1.0)
    assert torch.sigmoid(bias).item() == pytest.approx(label.mean().item())


def test_additive_starts_at_the_clinical_model_and_keeps_it():
    clinical, label = patients()
    fusion, bag = AdditiveLogit(IMAGE, CLINICAL), torch.randn(len(label), IMAGE)
    fusion.fit_clinical(clinical, label, 1.0)
    fitted = fusion.clinical(clinical)[:, 0]
    assert fitted.abs().max() > 1
    assert torch.equal(fusion(bag, clinical), fitted)
    optimizer = torch.optim.AdamW(fusion.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(fusion(bag, clinical), label).backward()
        optimizer.step()
    assert torch.equal(fusion.clinical(clinical)[:, 0], fitted)
    assert not torch.equal(fusion(bag, clinical), fitted)


def test_additive_trains_the_clinical_part_on_unless_frozen():
    clinical, label = patients()
    fusion = AdditiveLogit(IMAGE, CLINICAL, frozen=False)
    fusion.fit_clinical(clinical, label, 1.0)
    F.binary_cross_entropy_with_logits(fusion(torch.randn(60, IMAGE), clinical), label).backward()
    assert (fusion.clinical.weight.grad != 0).all()


@pytest.mark.parametrize(("dim", "scale"), [(3, 1.0), (59, 1.0), (500, 1e-3)])
def test_the_image_part_is_where_its_penalised_loss_has_no_slope(dim, scale):
    """With fewer features than patients, about as many, and more."""
    clinical, label = patients()
    bag = scale * (torch.randn(len(label), dim) + label.unsqueeze(1) / 4 + 3)
    fusion = AdditiveLogit(dim, CLINICAL, image_penalty=0.1)
    fusion.fit_clinical(clinical, label, 0.4)
    fusion.fit_images(bag, clinical, label, 0.4)
    fusion = fusion.double().requires_grad_()
    unit = (bag.double() - bag.double().mean(0)).square().sum(1).mean()
    counts = torch.where(label == 1, 0.4, 1.0).double()
    loss = F.binary_cross_entropy_with_logits(
        fusion(bag.double(), clinical.double()), label.double(), counts, reduction="sum"
    )
    # The bias belongs to bags minus their mean, so only the slopes across are the penalty's.
    (loss + 0.05 * unit * fusion.image.weight.square().sum()).backward()
    across = fusion.image.weight.grad[0] - bag.double().mean(0) * fusion.image.bias.grad
    assert abs(fusion.image.bias.grad.item()) < 1e-4
    assert (across / unit.sqrt()).abs().max() < 1e-4
    assert fusion.image.weight.abs().max() * unit.sqrt() > 1e-2


def test_stacking_equals_scikit_learn():
    """Inner folds deal out the patients of each class in turn, in the order they come in."""
    clinical, label = patients()
    bag = (torch.randn(60, 8) + label.unsqueeze(1)).double()
    fusion = StackedLogit(8, CLINICAL, penalty=0.5, image_penalty=0.1, inner_folds=3).double()
    fusion.fit_images(bag, clinical.double(), label, 0.4)
    weights = torch.where(label == 1, 0.4, 1.0)

    def model(penalty):
        return LogisticRegression(C=1 / penalty, tol=1e-12, solver="newton-cholesky")

    def image_logits(train):
        center = bag[train].mean(0)
        scaled = (bag - center) / (bag[train] - center).square().sum(1).mean().sqrt()
        fitted = model(0.1).fit(scaled[train], label[train], weights[train])
        return torch.tensor(fitted.decision_function(scaled))

    order = [*(label == 0).nonzero()[:, 0], *(label == 1).nonzero()[:, 0]]
    fold = torch.empty(60, dtype=torch.long)
    for position, patient in enumerate(order):
        fold[patient] = position % 3
    out_of_fold = torch.empty(60, dtype=torch.float64)
    for number in range(3):
        out_of_fold[fold == number] = image_logits(fold != number)[fold == number]
    scale = out_of_fold.std(correction=0)
    last = model(0.5).fit(torch.column_stack([out_of_fold / scale, clinical]), label, weights)
    own = image_logits(torch.ones(60, dtype=torch.bool))
    expected = last.decision_function(torch.column_stack([own / scale, clinical]))
    torch.testing.assert_close(
        fusion(bag, clinical.double()), torch.tensor(expected), atol=1e-5, rtol=1e-5
    )


def test_few_patients_and_equal_bags_fit():
    clinical, label = patients()
    for count, bag in ((2, torch.randn(2, 4)), (60, torch.ones(60, 4))):
        fusion = StackedLogit(4, CLINICAL)
        fusion.fit_images(bag, clinical[:count], label[:count], 1.0)
        assert fusion(bag, clinical[:count]).isfinite().all()
    fusion = AdditiveLogit(4, CLINICAL, image_penalty=0.1)
    fusion.fit_clinical(clinical, label, 1.0)
    fusion.fit_images(torch.ones(60, 4), clinical, label, 1.0)
    alone = fusion.clinical(clinical)[:, 0]
    torch.testing.assert_close(fusion(torch.ones(60, 4), clinical), alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("kind", "options"), [
    (AdditiveLogit, {"penalty": 0.0}),
    (AdditiveLogit, {"image_penalty": 0.0}),
    (AdditiveLogit, {"image_penalty": 0.1, "frozen": False}),
    (StackedLogit, {"inner_folds": 1}),
])  # fmt: skip
def test_arguments_out_of_range_are_refused(kind, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        kind(4, CLINICAL, **options)
