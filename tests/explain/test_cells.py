"""The bag without a cell, and attention."""

import pytest
import torch

from lymphoml.explain import cells
from lymphoml.explain.cells import attention_weights, bag_logit, leave_one_out
from lymphoml.models.fusion.trained import Concat
from lymphoml.models.mil import MILModel
from lymphoml.models.pooling.attention import Attention
from lymphoml.models.pooling.statistics import Mean, MeanStd

CLINICAL = torch.tensor([0.3, -1.2])


def model(pooling):
    torch.manual_seed(0)
    pooled = pooling(6)
    return MILModel(torch.nn.Identity(), pooled, Concat(pooled.dim, 2)).eval()


@pytest.mark.parametrize("numbers", [2**20, 1, 100])  # all bags at once, one, three at a time
@pytest.mark.parametrize("pooling", [Mean, MeanStd, Attention])
@torch.no_grad()
def test_leave_one_out_is_the_bag_made_again_without_the_image(pooling, numbers, monkeypatch):
    monkeypatch.setattr(cells, "MOST_NUMBERS", numbers)
    network, features = model(pooling), torch.randn(5, 6)
    found = leave_one_out(network, features, CLINICAL)
    whole = bag_logit(network, features, CLINICAL)
    for image in range(5):
        others = features[[each for each in range(5) if each != image]]
        expected = float(whole - bag_logit(network, others, CLINICAL))
        assert float(found[image]) == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_the_only_image_of_a_bag_has_no_effect():
    assert leave_one_out(model(Mean), torch.randn(1, 6), CLINICAL).isnan().all()


@torch.no_grad()
def test_attention_is_the_poolings_own():
    assert float(attention_weights(model(Attention), torch.randn(5, 6)).sum()) == pytest.approx(1)
    assert attention_weights(model(Mean), torch.randn(5, 6)) is None
