"""Poolings against their equations written out for one bag, and what must leave them unchanged."""

import copy

import pytest
import torch
from torch import Tensor, nn

from lymphoml.core.errors import InputError
from lymphoml.models.build import build
from lymphoml.models.pooling import SigmoidWeightedMean
from tests.models.equations import ONE_BAG
from tests.models.options import POOLINGS, make_pooling

DIM = 6
LENGTHS = [5, 1, 30, 2]


@pytest.fixture(params=POOLINGS)
def name(request) -> str:
    return request.param


@pytest.fixture
def pooling(name) -> nn.Module:
    torch.manual_seed(1)
    pooling = make_pooling(name, DIM).eval()
    for weight in pooling.parameters():
        nn.init.normal_(weight)  # far from uniform attention
    if isinstance(pooling, SigmoidWeightedMean):
        nn.init.constant_(pooling.norm.running_mean, 0.7)
        nn.init.constant_(pooling.norm.running_var, 2.0)
    return pooling


@pytest.fixture
def features() -> Tensor:
    torch.manual_seed(2)
    return torch.randn(sum(LENGTHS), DIM)


@torch.no_grad()
def test_equals_the_equation_bag_by_bag(name, pooling, features):
    batched = pooling(features, torch.tensor(LENGTHS))
    assert batched.shape == (len(LENGTHS), pooling.dim)
    precise = copy.deepcopy(pooling).double()
    for row, bag in zip(batched, features.split(LENGTHS), strict=True):
        expected = ONE_BAG[name](precise, list(bag.double()))
        torch.testing.assert_close(row.double(), expected, atol=1e-5, rtol=1e-5)
        alone = pooling(bag, torch.tensor([len(bag)]))
        torch.testing.assert_close(row, alone[0], atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_independent_of_the_order_of_instances(pooling, features):
    reference = pooling(features, torch.tensor(LENGTHS))
    bags = features.split(LENGTHS)
    shuffled = torch.cat([bag[torch.randperm(len(bag))] for bag in bags])
    torch.testing.assert_close(pooling(shuffled, torch.tensor(LENGTHS)), reference)


@torch.no_grad()
def test_only_noisy_or_depends_on_the_size_of_the_bag(name, pooling, features):
    reference = pooling(features, torch.tensor(LENGTHS))
    repeated = torch.cat([bag.repeat(3, 1) for bag in features.split(LENGTHS)])
    pooled = pooling(repeated, 3 * torch.tensor(LENGTHS))
    same = torch.isclose(pooled, reference, rtol=1e-5, atol=1e-5).all(1)
    assert same.tolist() == [name != "noisy_or"] * len(LENGTHS)


def test_independent_of_other_bags(pooling, features):
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


@pytest.mark.parametrize("size", [1e6, -1e6, 0.0])
def test_finite_for_large_and_for_equal_features(pooling, features, size):
    large = (size * features).requires_grad_()
    pooled = pooling(large, torch.tensor(LENGTHS))
    pooled.sum().backward()
    assert pooled.isfinite().all()
    assert all(leaf.grad.isfinite().all() for leaf in [large, *pooling.parameters()])


def test_trains_on_a_batch_of_one_instance(pooling, features):
    pooled = pooling.train()(features[:1], torch.tensor([1]))
    assert pooled.isfinite().all()
    torch.testing.assert_close(pooled, pooling.eval()(features[:1], torch.tensor([1])))


def test_weights_are_those_of_the_pooled_vector(name, pooling, features):
    if not hasattr(pooling, "weights"):
        return
    weights = pooling.weights(features, torch.tensor(LENGTHS))
    for bag, weight in zip(features.split(LENGTHS), weights.split(LENGTHS), strict=True):
        assert weight.sum().item() == pytest.approx(1)
        pooled = pooling(bag, torch.tensor([len(bag)]))[0]
        if name != "multihead_attention":  # which averages other values than the features
            torch.testing.assert_close(weight @ bag, pooled[:DIM])


def test_sigmoid_weighted_mean_normalises_in_training_by_the_batch(features):
    pooling = SigmoidWeightedMean(DIM)
    score = pooling.score(features)
    assert score.mean().item() == pytest.approx(0, abs=1e-5)
    assert score.std(correction=0).item() == pytest.approx(1, abs=1e-3)
    assert pooling.norm.running_mean.item() != 0


@pytest.mark.parametrize(("name", "argument", "value", "says"), [
    ("logsumexp", "r", 0.0, "r is 0.0; it must be above 0"),
    ("top_fraction", "fraction", 1.5, "fraction is 1.5; it must lie between 0 and 1"),
    ("chowder", "r", 0, "r must be >= 1"),
    ("chowder", "fraction", 0.6, "up to 0.5"),
    ("multihead_attention", "heads", 4, "heads is 4; it must divide 6"),
    ("multihead_attention", "heads", 0, "must divide"),
    ("distribution", "levels", [0.5, 2.0], "levels must lie between 0 and 1"),
    ("distribution", "eps", 0.0, "eps above 0"),
    ("mean_std", "eps", 0.0, "eps is 0.0"),
])  # fmt: skip
def test_arguments_out_of_range_are_refused(name, argument, value, says):
    with pytest.raises(InputError, match=says):
        build(POOLINGS[name] | {argument: value}, DIM)
