"""Poolings against their equations written out for one bag, and what must leave them unchanged."""

import math

import pytest
import torch
from torch import Tensor, nn

from lymphoml.nn.pooling import Attention, GatedAttention, LogSumExp, Max, Mean

DIM = 6
LENGTHS = [5, 1, 9, 2]
POOLINGS = {
    "mean": lambda: Mean(DIM),
    "max": lambda: Max(DIM),
    "logsumexp": lambda: LogSumExp(DIM, r=2.5),
    "attention": lambda: Attention(DIM, hidden=7),
    "gated_attention": lambda: GatedAttention(DIM, hidden=7),
}


@pytest.fixture(params=POOLINGS)
def pooling(request) -> nn.Module:
    torch.manual_seed(1)
    pooling = POOLINGS[request.param]()
    for weight in pooling.parameters():
        nn.init.normal_(weight)  # far from uniform attention
    return pooling


@pytest.fixture
def features() -> Tensor:
    torch.manual_seed(2)
    return torch.randn(sum(LENGTHS), DIM)


def one_bag(pooling: nn.Module, bag: Tensor) -> Tensor:
    """The equation of the docstring, an instance at a time."""
    instances = list(bag.double())
    n = len(instances)
    if isinstance(pooling, Mean):
        return sum(instances) / n
    if isinstance(pooling, Max):
        return torch.tensor([max(h[i].item() for h in instances) for i in range(DIM)]).double()
    if isinstance(pooling, LogSumExp):
        return (sum((pooling.r * h).exp() for h in instances) / n).log() / pooling.r
    v, w = pooling.v.weight.double(), pooling.w.weight.double()[0]
    scores = []
    for h in instances:
        hidden = (v @ h).tanh()
        if isinstance(pooling, GatedAttention):
            hidden = hidden * (1 / (1 + (-pooling.u.weight.double() @ h).exp()))
        scores.append(math.exp(w @ hidden))
    return sum(score / sum(scores) * h for score, h in zip(scores, instances, strict=True))


@torch.no_grad()
def test_equals_the_equation_bag_by_bag(pooling, features):
    batched = pooling(features, torch.tensor(LENGTHS))
    assert batched.shape == (len(LENGTHS), pooling.dim)
    for row, bag in zip(batched, features.split(LENGTHS), strict=True):
        torch.testing.assert_close(row.double(), one_bag(pooling, bag), atol=1e-6, rtol=1e-6)
        alone = pooling(bag, torch.tensor([len(bag)]))
        torch.testing.assert_close(row, alone[0], atol=1e-6, rtol=0)


@torch.no_grad()
def test_blind_to_order_and_bag_size(pooling, features):
    reference = pooling(features, torch.tensor(LENGTHS))
    bags = features.split(LENGTHS)
    shuffled = torch.cat([bag[torch.randperm(len(bag))] for bag in bags])
    torch.testing.assert_close(pooling(shuffled, torch.tensor(LENGTHS)), reference)
    tripled = torch.cat([bag.repeat(3, 1) for bag in bags])
    torch.testing.assert_close(pooling(tripled, 3 * torch.tensor(LENGTHS)), reference)


def test_blind_to_batch_mates(pooling, features):
    changed = torch.cat([features[:5], 100 * features[5:]])
    with torch.no_grad():
        first = pooling(features, torch.tensor(LENGTHS))[0]
        assert torch.equal(pooling(changed, torch.tensor(LENGTHS))[0], first)
    features.requires_grad_()
    pooling(features, torch.tensor(LENGTHS))[0].sum().backward()
    assert (features.grad[:5] != 0).any()
    assert (features.grad[5:] == 0).all()


def test_half_precision_features_are_pooled_in_single(pooling, features):
    features.requires_grad_()
    reference = pooling(features, torch.tensor(LENGTHS))
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pooling(features.bfloat16(), torch.tensor(LENGTHS))
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, reference, atol=0.1, rtol=0.05)
    pooled.sum().backward()
    assert all(leaf.grad.isfinite().all() for leaf in [features, *pooling.parameters()])


def test_finite_for_large_features(pooling, features):
    large = (1e6 * features).requires_grad_()
    pooled = pooling(large, torch.tensor(LENGTHS))
    pooled.sum().backward()
    assert pooled.isfinite().all()
    assert large.grad.isfinite().all()


def test_logsumexp_lies_between_mean_and_maximum(features):
    lengths = torch.tensor(LENGTHS)
    mean, maximum = Mean(DIM)(features, lengths), Max(DIM)(features, lengths)
    torch.testing.assert_close(LogSumExp(DIM, r=1e-3)(features, lengths), mean, atol=2e-3, rtol=0)
    torch.testing.assert_close(LogSumExp(DIM, r=1e4)(features, lengths), maximum, atol=1e-3, rtol=0)
    between = LogSumExp(DIM)(features, lengths)
    assert (mean - 1e-6 <= between).all()
    assert (between <= maximum + 1e-6).all()


@pytest.mark.parametrize("r", [0.0, -1.0, math.nan])
def test_logsumexp_refuses_other_sharpness(r):
    with pytest.raises(ValueError, match=f"r is {r}; it must be above 0"):
        LogSumExp(DIM, r=r)


@pytest.mark.parametrize("name", ["attention", "gated_attention"])
def test_attention_weights_are_those_of_the_pooled_vector(name, features):
    torch.manual_seed(0)
    pooling = POOLINGS[name]()
    weights = pooling.weights(features, torch.tensor(LENGTHS))
    for bag, weight in zip(features.split(LENGTHS), weights.split(LENGTHS), strict=True):
        assert weight.sum().item() == pytest.approx(1)
        torch.testing.assert_close(weight @ bag, pooling(bag, torch.tensor([len(bag)]))[0])
