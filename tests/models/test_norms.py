"""Normalisation layers: replaced everywhere, scale and shift kept, independent of the batch."""

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from lymphoml.core.errors import InputError
from lymphoml.models.norms import GroupNorm, set_norm

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def make_network() -> nn.Sequential:
    """A small network as after training: no weight or statistic is 0 or 1."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(6, 48, 1), nn.BatchNorm2d(48))
    network = nn.Sequential(nn.Conv2d(3, 6, 3), BatchNormAct2d(6, eps=1e-3), block)
    for layer in (network[1], block[1]):
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    return network


def test_group_norm_keeps_scale_shift_and_activation():
    network = make_network()
    before = {name: value.clone() for name, value in network.named_parameters()}
    set_norm(network, "group")
    after = dict(network.named_parameters())
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert (network[1].num_groups, network[1].eps) == (3, 1e-3)
    assert network[:2](IMAGES).min() == 0  # the ReLU of BatchNormAct2d
    assert network(IMAGES).min() < 0  # and of nothing else


@pytest.mark.parametrize(("channels", "groups"), [
    (1, 1), (2, 1), (3, 1), (16, 8), (40, 20), (48, 24), (64, 32), (512, 32),
])  # fmt: skip
def test_a_group_has_two_channels_at_least(channels, groups):
    assert GroupNorm(nn.BatchNorm2d(channels)).num_groups == groups


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_group_norm_is_torchs_and_keeps_the_memory_layout(layout):
    layer = GroupNorm(nn.BatchNorm2d(48))
    nn.init.normal_(layer.weight)
    x = torch.randn(3, 48, 5, 7).contiguous(memory_format=layout).requires_grad_()
    output = layer(x)
    expected = nn.functional.group_norm(x, 24, layer.weight, layer.bias)
    torch.testing.assert_close(output, expected)
    assert output.is_contiguous(memory_format=layout)
    gradients = [torch.autograd.grad(y.sin().sum(), x)[0] for y in (output, expected)]
    torch.testing.assert_close(*gradients)


def test_frozen_equals_batch_norm_in_evaluation_and_keeps_its_statistics():
    network = make_network()
    with torch.no_grad():
        reference = network.eval()(IMAGES)
    set_norm(network, "frozen")
    network.train()
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    output = network(IMAGES)
    torch.testing.assert_close(output, reference)
    output.square().sum().backward()
    assert all(torch.equal(value, buffers[name]) for name, value in network.named_buffers())
    assert not network[1].training
    assert network[1].weight.grad is not None
    assert network[1].bias.grad is not None


def test_invalid_norms_are_refused():
    with pytest.raises(InputError, match="layer; must be one of batch, group, frozen"):
        set_norm(make_network(), "layer")
    for norm in ("group", "frozen"):
        with pytest.raises(InputError, match="has no BatchNorm"):
            set_norm(nn.Sequential(nn.Conv2d(3, 3, 1), nn.LayerNorm(3)), norm)
