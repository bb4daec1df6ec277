"""Poolings against torchmil's implementations, where it has one, with the same weights.

torchmil pads: the bags of a batch are one tensor and a mask.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lymphoml.models.pooling import (
    DSMIL,
    Attention,
    GatedAttention,
    Max,
    Mean,
    MultiheadAttention,
    TopFractionPooling,
)

theirs = pytest.importorskip("torchmil.nn")
models = pytest.importorskip("torchmil.models")
DIM, HIDDEN, LENGTHS = 8, 5, [4, 1, 7]


@pytest.fixture
def features() -> Tensor:
    torch.manual_seed(3)
    return torch.randn(sum(LENGTHS), DIM)


def padded(features: Tensor) -> tuple[Tensor, Tensor]:
    bags = features.split(LENGTHS)
    masks = [torch.ones(len(bag), dtype=torch.bool) for bag in bags]
    return pad_sequence(bags, batch_first=True), pad_sequence(masks, batch_first=True)


def assert_same(ours: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(ours, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("ours", "other"), [(Mean, "MeanPool"), (Max, "MaxPool")])
def test_mean_and_max(ours, other, features):
    found = ours(DIM)(features, torch.tensor(LENGTHS))
    assert_same(found, getattr(theirs, other)()(*padded(features)))


@pytest.mark.parametrize("gated", [False, True])
@torch.no_grad()
def test_attention(gated, features):
    ours = (GatedAttention if gated else Attention)(DIM, HIDDEN)
    other = theirs.AttentionPool(DIM, HIDDEN, gated=gated)
    copy(other.fc1.module, ours.v)
    copy(other.fc2, ours.w)
    if gated:
        copy(other.fc_gated.module, ours.u)
    lengths = torch.tensor(LENGTHS)
    pooled, scores = other(*padded(features), return_att=True)
    assert_same(ours(features, lengths), pooled)
    mask = padded(features)[1]
    assert_same(ours.score(features), scores[mask])


@torch.no_grad()
def test_multihead_attention_of_a_class_token(features):
    """Bag by bag: torchmil's mask is over the queries. It has no bias and no last projection."""
    ours = MultiheadAttention(DIM, heads=2)
    ours.value.bias.zero_()
    ours.out.weight.copy_(torch.eye(DIM))
    ours.out.bias.zero_()
    other = theirs.MultiheadCrossAttention(DIM, DIM, DIM, n_heads=2)
    other.q_nn.weight.copy_(torch.eye(DIM))
    other.kv_nn.weight.copy_(torch.cat([ours.key.weight, ours.value.weight]))
    pooled = ours(features, torch.tensor(LENGTHS))
    for row, bag in zip(pooled, features.split(LENGTHS), strict=True):
        assert_same(row, other(ours.token.view(1, 1, DIM), bag.unsqueeze(0))[0, 0])


@torch.no_grad()
def test_multihead_attention_is_torchs_own(features):
    ours = MultiheadAttention(DIM, heads=4)
    other = nn.MultiheadAttention(DIM, 4, batch_first=True)
    other.in_proj_weight.copy_(torch.cat([torch.eye(DIM), ours.key.weight, ours.value.weight]))
    other.in_proj_bias.zero_()
    other.in_proj_bias[2 * DIM :] = ours.value.bias
    copy(other.out_proj, ours.out)
    bags, mask = padded(features)
    token = ours.token.view(1, 1, DIM).expand(len(bags), -1, -1)
    pooled, weights = other(token, bags, bags, key_padding_mask=~mask)
    assert_same(ours(features, torch.tensor(LENGTHS)), pooled[:, 0])
    assert_same(ours.weights(features, torch.tensor(LENGTHS)), weights[:, 0][mask])


@torch.no_grad()
def test_both_streams_of_dsmil(features):
    """Bag by bag: torchmil looks for the critical instance among the padding, too."""
    ours, other = DSMIL(DIM, HIDDEN), models.DSMIL((DIM,), att_dim=HIDDEN)
    copy(other.q_nn, ours.q)
    copy(other.inst_classifier, ours.w)
    for bag in features.split(LENGTHS):
        *stream, highest = ours(bag, torch.tensor([len(bag)]))[0]
        logit, weights, scores = other(bag.unsqueeze(0), return_att=True, return_inst_pred=True)
        assert_same(other.bag_classifier(torch.stack(stream)), logit)
        assert_same(highest, scores.max())
        assert_same(ours.weights(bag, torch.tensor([len(bag)])), weights[0, :, 0])


@torch.no_grad()
def test_scores_are_those_of_the_instance_stream(features):
    ours, other = TopFractionPooling(DIM, fraction=0.0), models.DSMIL((DIM,))
    copy(other.inst_classifier, ours.w)
    for bag in features.split(LENGTHS):
        _, scores = other(bag.unsqueeze(0), return_inst_pred=True)
        assert_same(ours(bag, torch.tensor([len(bag)]))[0, 0], scores.max())


@torch.no_grad()
def copy(target: nn.Linear, source: nn.Linear) -> None:
    target.weight.copy_(source.weight)
    if target.bias is not None:
        target.bias.zero_() if source.bias is None else target.bias.copy_(source.bias)
