"""Fusions: what each one looks at, and the mixture of experts against its formula."""

import pytest
import statsmodels.api as sm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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
    mixture_logit,
)
from lymphoml.models.fusion.fitted import fit_logistic

IMAGE, CLINICAL = 5, 3


def inputs(dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(4, IMAGE, dtype=dtype), torch.randn(4, CLINICAL, dtype=dtype)


def test_no_clinical_looks_at_the_bag_alone():
    fusion, (bag, clinical) = NoClinical(IMAGE, CLINICAL).double(), inputs()
    assert torch.equal(fusion(bag, clinical), fusion(bag, clinical + 1))
    assert torch.equal(fusion(bag, clinical), F.linear(bag, *fusion.image.parameters())[:, 0])


def test_clinical_only_needs_no_bag():
    fusion, (_, clinical) = ClinicalOnly(0, CLINICAL).double(), inputs()
    assert not fusion.uses_images
    expected = F.linear(clinical, *fusion.clinical.parameters())[:, 0]
    assert torch.equal(fusion(None, clinical), expected)


def test_concat_is_the_sum_of_two_linear_scores():
    fusion, (bag, clinical) = Concat(IMAGE, CLINICAL).double(), inputs()
    weight, bias = fusion.both.weight[0], fusion.both.bias
    expected = bag @ weight[:IMAGE] + clinical @ weight[IMAGE:] + bias
    torch.testing.assert_close(fusion(bag, clinical), expected)


def test_concats_equal_parts_are_as_large_for_inputs_of_one_scale():
    fusion, (bag, clinical) = Concat(IMAGE, CLINICAL, equal_parts=True).double(), inputs()
    weight, bias = fusion.both.weight[0], fusion.both.bias
    scale = (IMAGE / CLINICAL) ** 0.5
    expected = bag @ weight[:IMAGE] + scale * clinical @ weight[IMAGE:] + bias
    torch.testing.assert_close(fusion(bag, clinical), expected)
    assert (scale * torch.ones(CLINICAL)).norm() == pytest.approx(torch.ones(IMAGE).norm().item())


def direct(gate, one, other):
    pi = torch.sigmoid(gate)
    return pi * torch.sigmoid(one) + (1 - pi) * torch.sigmoid(other)


def test_mixture_mixes_the_experts_probabilities():
    torch.manual_seed(0)
    fusion, (bag, clinical) = MixtureOfExperts(IMAGE, CLINICAL).double(), inputs()
    both = torch.cat([bag, clinical], dim=1)
    p = direct(fusion.gate(both), fusion.image(bag), fusion.clinical(clinical))[:, 0]
    logits = fusion(bag, clinical)
    torch.testing.assert_close(torch.sigmoid(logits), p)
    label = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(
        F.binary_cross_entropy_with_logits(logits, label),
        -(label * p.log() + (1 - label) * (1 - p).log()).mean(),
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-12, 12)] * 3), min_size=1, max_size=4))
def test_mixture_logit_equals_the_direct_formula(rows):
    ours = torch.tensor(rows, dtype=torch.float64).T.requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    logit, p = mixture_logit(*ours), direct(*theirs)
    torch.testing.assert_close(logit, torch.logit(p), atol=1e-8, rtol=1e-8)
    logit.sum().backward()
    torch.logit(p).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_mixture_learns_from_the_surest_mistakes(label):
    sure = torch.tensor([-1e4, -200.0, 0.0, 200.0, 1e4])
    logits = torch.cartesian_prod(sure, sure, sure).T.clone().requires_grad_()
    mixed = mixture_logit(*logits)
    F.binary_cross_entropy_with_logits(mixed, torch.full_like(mixed, label)).backward()
    assert mixed.isfinite().all()
    assert logits.grad.isfinite().all()


def test_gate_decides_between_the_experts():
    one, other = torch.tensor([2.0, 2.0]), torch.tensor([-1.0, -1.0])
    mixed = mixture_logit(torch.tensor([50.0, -50.0]), one, other)
    torch.testing.assert_close(mixed, torch.tensor([2.0, -1.0]))


@pytest.mark.parametrize("fusion", [NoClinical, MixtureOfExperts, ProductOfProbabilities])
def test_a_pooling_of_scores_gives_the_image_logit_itself(fusion):
    """A layer could turn its sign."""
    assert list(fusion(1, CLINICAL).image.parameters()) == []


def test_product_multiplies_the_experts_probabilities():
    fusion, (bag, clinical) = ProductOfProbabilities(IMAGE, CLINICAL).double(), inputs()
    p = torch.sigmoid(fusion.image(bag)) * torch.sigmoid(fusion.clinical(clinical))
    torch.testing.assert_close(torch.sigmoid(fusion(bag, clinical)), p[:, 0])


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_product_learns_from_the_surest_mistakes(label):
    sure = torch.tensor([-1e4, -200.0, 0.0, 200.0, 1e4])
    bag, clinical = (column.unsqueeze(1) for column in torch.cartesian_prod(sure, sure).T)
    fusion = ProductOfProbabilities(1, 1)
    nn.init.ones_(fusion.clinical.weight)
    bag, clinical = bag.clone().requires_grad_(), clinical.clone().requires_grad_()
    mixed = fusion(bag, clinical)
    F.binary_cross_entropy_with_logits(mixed, torch.full_like(mixed, label)).backward()
    assert all(each.isfinite().all() for each in (mixed, bag.grad, clinical.grad))


def test_film_modulates_feature_by_feature():
    fusion, (bag, clinical) = FiLM(IMAGE, CLINICAL).double(), inputs()
    assert torch.equal(fusion(bag, clinical), fusion.image(bag)[:, 0])  # where it starts
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


@pytest.mark.parametrize("pos_weight", [1.0, 0.4])
@pytest.mark.parametrize("penalty", [1.0, 1e-3])
@pytest.mark.parametrize("scale", [1.0, 100.0])  # years and counts as they are
def test_additive_fits_what_scikit_learn_fits(pos_weight, penalty, scale):
    clinical, label = patients()
    clinical = scale * clinical + scale
    weight, bias = fit_logistic(clinical, label, pos_weight, penalty)
    theirs = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000, solver="newton-cholesky")
    counts = [pos_weight if each else 1.0 for each in label]
    theirs.fit(clinical.double().numpy(), label.numpy(), sample_weight=counts)
    assert weight.tolist() == pytest.approx(theirs.coef_[0].tolist(), rel=1e-4, abs=1e-6)
    assert bias.item() == pytest.approx(theirs.intercept_[0], rel=1e-4, abs=1e-5)


def test_a_known_logit_is_an_offset_as_statsmodels_has_it():
    clinical, label = patients()
    offset = torch.randn(len(label))
    weight, bias = fit_logistic(clinical, label, 1.0, 1e-9, offset)
    values = sm.add_constant(clinical.double().numpy())
    theirs = sm.GLM(label.numpy(), values, sm.families.Binomial(), offset=offset.double().numpy())
    expected = theirs.fit(tol=1e-12).params
    assert [bias.item(), *weight.tolist()] == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-5)


def test_a_single_class_or_no_clinical_value_still_fits():
    clinical, label = patients()
    for values, labels in ((clinical, torch.ones_like(label)), (clinical[:, :0], label)):
        assert all(part.isfinite().all() for part in fit_logistic(values, labels, 1.0, 1.0))
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
    loss = F.binary_cross_entropy_with_logits(fusion(torch.randn(60, IMAGE), clinical), label)
    loss.backward()
    assert (fusion.clinical.weight.grad != 0).all()
    # The penalty's is what is left of the gradient at the minimum.
    expected = -fusion.clinical.weight.detach() / len(label)
    torch.testing.assert_close(fusion.clinical.weight.grad, expected, atol=1e-5, rtol=1e-3)
    with pytest.raises(ValueError, match=r"penalty is 0\.0; it must be above 0"):
        AdditiveLogit(IMAGE, CLINICAL, penalty=0.0)


def ridge(dim: int, scale: float = 1.0, pos_weight: float = 0.4):
    """A fusion with both parts fitted, and what it was fitted to."""
    clinical, label = patients()
    bag = scale * (torch.randn(len(label), dim) + label.unsqueeze(1) / 4 + 3)
    fusion = AdditiveLogit(dim, CLINICAL, image_penalty=0.1)
    fusion.fit_clinical(clinical, label, pos_weight)
    fusion.fit_images(bag, clinical, label, pos_weight)
    return fusion, bag, clinical, label


@pytest.mark.parametrize("dim", [3, 59, 500])  # fewer than patients, as many, more
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_the_image_part_is_where_its_penalised_loss_has_no_slope(dim, scale):
    fusion, bag, clinical, label = ridge(dim, scale)
    fusion = fusion.double().requires_grad_()
    apart = bag.double() - bag.double().mean(0)
    unit = apart.square().sum(1).mean()
    counts = torch.tensor([0.4 if each else 1.0 for each in label], dtype=torch.float64)
    loss = F.binary_cross_entropy_with_logits(
        fusion(bag.double(), clinical.double()), label.double(), counts, reduction="sum"
    )
    # The bias belongs to bags about their mean, so only the slopes across are the penalty's.
    (loss + 0.05 * unit * fusion.image.weight.square().sum()).backward()
    across = fusion.image.weight.grad[0] - bag.double().mean(0) * fusion.image.bias.grad
    assert abs(fusion.image.bias.grad.item()) < 1e-4
    assert (across / unit.sqrt()).abs().max() < 1e-4
    assert fusion.image.weight.abs().max() * unit.sqrt() > 1e-2


def test_the_image_part_knows_no_unit_and_fits_on_top_of_the_clinical_part():
    one, bag, clinical, _ = ridge(50)
    other, larger, *_ = ridge(50, scale=1000.0)
    torch.testing.assert_close(one(bag, clinical), other(larger, clinical), atol=1e-4, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in one.parameters())
    alone = AdditiveLogit(50, CLINICAL, image_penalty=0.1)
    alone.fit_clinical(*patients(), 0.4)
    assert torch.equal(alone.clinical.weight, one.clinical.weight)


def test_bags_that_are_all_alike_add_nothing():
    clinical, label = patients()
    fusion, bag = AdditiveLogit(4, CLINICAL, image_penalty=0.1), torch.ones(len(label), 4)
    fusion.fit_clinical(clinical, label, 1.0)
    fusion.fit_images(bag, clinical, label, 1.0)
    known = fusion.clinical(clinical)[:, 0]
    torch.testing.assert_close(fusion(bag, clinical), known, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=r"image_penalty is 0\.0; it must be above 0"):
        AdditiveLogit(4, CLINICAL, image_penalty=0.0)
    with pytest.raises(ValueError, match="a clinical part that is frozen"):
        AdditiveLogit(4, CLINICAL, frozen=False, image_penalty=0.1)


def test_stacking_weighs_what_scikit_learn_weighs():
    """Inner folds deal out the patients of each class in turn, in the order they come in."""
    clinical, label = patients()
    bag = (torch.randn(60, 8) + label.unsqueeze(1)).double()
    fusion = StackedLogit(8, CLINICAL, penalty=0.5, image_penalty=0.1, inner_folds=3).double()
    fusion.fit_images(bag, clinical.double(), label, 0.4)

    def model(penalty):
        return LogisticRegression(C=1 / penalty, tol=1e-12, solver="newton-cholesky")

    def image_model(train):
        centre = bag[train].mean(0)
        unit = (bag[train] - centre).square().sum(1).mean().sqrt()
        scaled = (bag - centre) / unit
        fitted = model(0.1).fit(scaled[train], label[train], weights[train])
        return torch.tensor(fitted.decision_function(scaled))

    weights = torch.where(label == 1, 0.4, 1.0)
    fold = torch.empty(60, dtype=torch.long)
    for each in (0, 1):
        its = (label == each).nonzero()[:, 0]
        before = 0 if each == 0 else int((label == 0).sum())
        fold[its] = (before + torch.arange(len(its))) % 3
    unseen = torch.empty(60, dtype=torch.float64)
    for each in range(3):
        unseen[fold == each] = image_model(fold != each)[fold == each]
    unit = unseen.std(correction=0)
    last = model(0.5).fit(torch.column_stack([unseen / unit, clinical]), label, weights)
    own = image_model(torch.ones(60, dtype=torch.bool))
    expected = last.decision_function(torch.column_stack([own / unit, clinical]))
    torch.testing.assert_close(
        fusion(bag, clinical.double()), torch.tensor(expected), atol=1e-5, rtol=1e-5
    )


def test_stacking_trusts_less_what_says_nothing():
    """In 500 columns of noise a model tells its own patients apart, and nobody else."""
    clinical, label = patients(120)
    losses: dict[type, list[float]] = {StackedLogit: [], AdditiveLogit: []}
    for _ in range(5):
        noise = torch.randn(120, 500)
        for kind, its in losses.items():
            fusion = kind(500, CLINICAL, image_penalty=0.02)
            if kind is AdditiveLogit:
                fusion.fit_clinical(clinical[:60], label[:60], 1.0)
            fusion.fit_images(noise[:60], clinical[:60], label[:60], 1.0)
            assert not any(parameter.requires_grad for parameter in fusion.parameters())
            logits = fusion(noise[60:], clinical[60:])
            its.append(F.binary_cross_entropy_with_logits(logits, label[60:]).item())
    assert sum(losses[StackedLogit]) < sum(losses[AdditiveLogit])


def test_stacking_bears_few_patients_and_bags_that_are_alike():
    clinical, label = patients()
    for count, bag in ((2, torch.randn(2, 4)), (60, torch.ones(60, 4))):
        fusion = StackedLogit(4, CLINICAL)
        fusion.fit_images(bag, clinical[:count], label[:count], 1.0)
        assert fusion(bag, clinical[:count]).isfinite().all()
    for words in ({"penalty": 0.0}, {"image_penalty": 0.0}, {"inner_folds": 1}):
        with pytest.raises(ValueError, match=next(iter(words))):
            StackedLogit(4, CLINICAL, **words)
