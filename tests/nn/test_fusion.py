"""Fusions: what each one looks at, and the mixture of experts against its formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from lymphoml.nn.fusion import ClinicalOnly, Concat, MixtureOfExperts, NoClinical, mixture_logit

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
