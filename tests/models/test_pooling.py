"""Poolings against their equations written out for one bag, and against torchmil."""

import copy

import pytest
import torch
from torch import Tensor, nn

from lymphoml.core.errors import InputError
from lymphoml.models.build import build
from lymphoml.models.pooling import DSMIL, Attention, GatedAttention, SigmoidWeightedMean
from tests.models.equations import ONE_BAG
from tests.models.options import POOLINGS, make_pooling

DIM = 6
LENGTHS = [5, 1, 30, 2]
WEIGHING = [name for name in POOLINGS if hasattr(make_pooling(name, DIM), "weights")]


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


@pytest.mark.parametrize("name", WEIGHING)
def test_weights_are_those_of_the_pooled_vector(name, pooling, features):
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


@pytest.mark.slow
@torch.no_grad()
def test_attention_and_dsmil_are_torchmils(features):
    """Bag by bag: torchmil's DSMIL looks for the critical instance among the padding, too."""
    nets, layers = pytest.importorskip("torchmil.models"), pytest.importorskip("torchmil.nn")

    def copy_layer(target, source):
        target.weight.copy_(source.weight)
        if target.bias is not None:
            target.bias.zero_() if source.bias is None else target.bias.copy_(source.bias)

    plain, gated, dsmil = Attention(DIM, 5), GatedAttention(DIM, 5), DSMIL(DIM, 5)
    others = {each: layers.AttentionPool(DIM, 5, gated=each is gated) for each in (plain, gated)}
    for pooling, other in others.items():
        copy_layer(other.fc1.module, pooling.v)
        copy_layer(other.fc2, pooling.w)
    copy_layer(others[gated].fc_gated.module, gated.u)
    other_dsmil = nets.DSMIL((DIM,), att_dim=5)
    copy_layer(other_dsmil.q_nn, dsmil.q)
    copy_layer(other_dsmil.inst_classifier, dsmil.w)
    for bag in features.split(LENGTHS):
        length = torch.tensor([len(bag)])
        for pooling, other in others.items():
            pooled, scores = other(bag[None], torch.ones(1, len(bag)), return_att=True)
            torch.testing.assert_close(pooling(bag, length), pooled)
            torch.testing.assert_close(pooling.score(bag), scores[0])
        *stream, highest = dsmil(bag, length)[0]
        logit, weights, scores = other_dsmil(bag[None], return_att=True, return_inst_pred=True)
        torch.testing.assert_close(other_dsmil.bag_classifier(torch.stack(stream)), logit)
        torch.testing.assert_close(highest, scores.max())
        torch.testing.assert_close(dsmil.weights(bag, length), weights[0, :, 0])
