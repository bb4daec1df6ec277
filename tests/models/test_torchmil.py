"""Poolings against torchmil's implementations with the same weights.

torchmil pads: the bags of a batch are one tensor and a mask.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lymphoml.models.pooling import DSMIL, Attention, GatedAttention

DIM, HIDDEN, LENGTHS = 8, 5, [4, 1, 7]


@pytest.fixture
def features() -> Tensor:
    torch.manual_seed(3)
    return torch.randn(sum(LENGTHS), DIM)


def padded(features: Tensor) -> tuple[Tensor, Tensor]:
    bags = features.split(LENGTHS)
    masks = [torch.ones(len(bag), dtype=torch.bool) for bag in bags]
    return pad_sequence(bags, batch_first=True), pad_sequence(masks, batch_first=True)


def assert_same(pooled: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(pooled, expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def copy(target: nn.Linear, source: nn.Linear) -> None:
    target.weight.copy_(source.weight)
    if target.bias is not None:
        target.bias.zero_() if source.bias is None else target.bias.copy_(source.bias)


@pytest.mark.slow
@pytest.mark.parametrize("gated", [False, True])
@torch.no_grad()
def test_attention(gated, features):
    torchmil = pytest.importorskip("torchmil.nn")
    pooling = (GatedAttention if gated else Attention)(DIM, HIDDEN)
    other = torchmil.AttentionPool(DIM, HIDDEN, gated=gated)
    copy(other.fc1.module, pooling.v)
    copy(other.fc2, pooling.w)
    if gated:
        copy(other.fc_gated.module, pooling.u)
    bags, mask = padded(features)
    pooled, scores = other(bags, mask, return_att=True)
    assert_same(pooling(features, torch.tensor(LENGTHS)), pooled)
    assert_same(pooling.score(features), scores[mask])


@pytest.mark.slow
@torch.no_grad()
def test_both_streams_of_dsmil(features):
    """Bag by bag: torchmil looks for the critical instance among the padding, too."""
    torchmil = pytest.importorskip("torchmil.models")
    pooling, other = DSMIL(DIM, HIDDEN), torchmil.DSMIL((DIM,), att_dim=HIDDEN)
    copy(other.q_nn, pooling.q)
    copy(other.inst_classifier, pooling.w)
    for bag in features.split(LENGTHS):
        *stream, highest = pooling(bag, torch.tensor([len(bag)]))[0]
        logit, weights, scores = other(bag.unsqueeze(0), return_att=True, return_inst_pred=True)
        assert_same(other.bag_classifier(torch.stack(stream)), logit)
        assert_same(highest, scores.max())
        assert_same(pooling.weights(bag, torch.tensor([len(bag)])), weights[0, :, 0])
