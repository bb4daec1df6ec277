"""New initial weights from the last module to the first."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from lymphoml.explain.randomised import cascade, rank_correlation
from lymphoml.models.encoders import FeatureEncoder, resnet10, timm_encoder
from lymphoml.models.fusion.fitted import StackedLogit
from lymphoml.models.fusion.trained import Concat
from lymphoml.models.mil import MILModel
from lymphoml.models.pooling.attention import Attention, MultiheadAttention
from lymphoml.models.pooling.statistics import Mean

BLOCKS = [f"encoder.{place}" for place in (7, 6, 5, 4, 0)]  # and the stem, with its norm
NETWORKS = {
    "resnet10": (lambda: resnet10(4), Attention, ["fusion", "pooling", *BLOCKS]),
    "vit": (lambda: timm_encoder("test_vit", norm=None, img_size=32), MultiheadAttention,
            ["fusion", "pooling", "encoder.blocks", "encoder.patch_embed"]),
    "mlp": (lambda: FeatureEncoder([5], feature_dim=6), Mean, ["fusion", "encoder.layers.0"]),
    "vectors": (lambda: FeatureEncoder(feature_dim=6), Mean, ["fusion"]),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_modules_are_randomised_from_the_last_to_the_first(name):
    encoder, pooling, steps = NETWORKS[name]
    network = encoder()
    pooled = pooling(network.dim)
    model = MILModel(network, pooled, Concat(pooled.dim, 2)).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.rand_like(weights))  # as if trained
    before = {key: value.clone() for key, value in model.state_dict().items()}
    seen = []
    for step, twin in cascade(model, 0):
        seen.append(step)
        changed = {key for key, value in twin.named_parameters()
                   if not torch.equal(value, before[key])}  # fmt: skip
        if len(seen) == 1:
            assert changed == {"fusion.both.weight", "fusion.both.bias"}
    assert seen == steps
    assert changed == {key for key, _ in model.named_parameters()}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not twin.training
    again = [{key: value.clone() for key, value in each.state_dict().items()}
             for _, each in cascade(model, 0)]  # fmt: skip
    assert all(torch.equal(value, again[-1][key]) for key, value in twin.state_dict().items())
    other = [each for _, each in cascade(model, 1)][-1]
    assert not torch.equal(other.fusion.both.weight, twin.fusion.both.weight)


def test_a_fusion_that_is_fitted_from_0_is_not_0_when_randomised():
    model = MILModel(FeatureEncoder(feature_dim=6), Mean(6), StackedLogit(6, 2)).eval()
    ((_, twin),) = cascade(model, 0)
    assert twin.fusion.image.weight.std() > 0


def test_the_rank_correlation_is_the_mean_of_spearmans_over_rows():
    one, other = np.random.default_rng(0).normal(size=(2, 4, 9)).round(1)
    other[2] = 1.0  # constant: says nothing
    expected = np.mean([spearmanr(one[row], other[row]).statistic for row in (0, 1, 3)])
    assert rank_correlation(one, other) == pytest.approx(expected)
    assert np.isnan(rank_correlation(one, np.ones_like(one)))
