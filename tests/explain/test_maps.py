"""Grad-CAM and occlusion against captum, hooks, and what can be worked out by hand."""

import time

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn

from lymphoml.core.errors import InputError
from lymphoml.data.transforms import to_unit
from lymphoml.explain import cells, maps
from lymphoml.explain.cells import bag_logit
from lymphoml.explain.maps import (
    centre_and_step,
    grad_cam,
    layer_map,
    logit_gradient,
    occlusion,
    spread,
)
from lymphoml.models.encoders import resnet10, timm_encoder, torchvision_encoder
from lymphoml.models.fusion.trained import Concat
from lymphoml.models.mil import MILModel
from lymphoml.models.pooling.attention import Attention, GatedAttention
from lymphoml.models.pooling.instance_scores import TopFractionPooling
from lymphoml.models.pooling.statistics import Mean


def model(pooling=Mean, encoder=None):
    torch.manual_seed(0)
    encoder = encoder or resnet10(4, norm="group")
    pooled = pooling(encoder.dim)
    return MILModel(encoder, pooled, Concat(pooled.dim, 2)).eval()


def bag(count=5, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


CLINICAL = torch.tensor([0.3, -1.2])


@pytest.mark.parametrize("chunk", [64, 2])  # 2: several chunks, the last of one image
@pytest.mark.parametrize("pooling", [Mean, Attention, GatedAttention])
def test_grad_cam_is_captums(pooling, chunk, monkeypatch):
    monkeypatch.setattr(maps, "CHUNK", chunk)
    network, images = model(pooling), bag()
    found, strength = grad_cam(network, images, to_unit, CLINICAL)

    def logit(pixels):  # one output for the whole bag
        return bag_logit(network, network.encoder(pixels), CLINICAL).reshape(1, 1)

    last = network.encoder[-3]  # the block before the mean over positions
    expected = LayerGradCam(logit, last).attribute(to_unit(images), target=0)
    assert found.shape == (5, 2, 2)
    assert torch.allclose(found, expected[:, 0], rtol=0, atol=1e-6)
    assert (strength > 0).all()


@pytest.mark.parametrize("kept", [2**28, 0])  # 0: activations are computed a second time
def test_grad_cam_is_that_of_hooks_at_any_layer(kept, monkeypatch):
    monkeypatch.setattr(maps, "KEPT_BYTES", kept)
    network, images = model(encoder=torchvision_encoder("resnet18").eval()), bag(3, 64)
    for layer in ("layer3", "layer4"):
        seen = []
        module = network.encoder.get_submodule(layer)
        handle = module.register_forward_hook(lambda *args, seen=seen: seen.append(args[2]))
        value = bag_logit(network, network.encoder(to_unit(images)), CLINICAL)
        handle.remove()
        (gradient,) = torch.autograd.grad(value, seen[0])
        expected = (gradient.mean((2, 3), keepdim=True) * seen[0]).sum(1).detach()
        towards = logit_gradient(network, network.encoder(to_unit(images)), CLINICAL)
        found = layer_map(network, to_unit(images), layer, towards)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)
    closed, _ = grad_cam(network, images, to_unit, CLINICAL)
    assert torch.allclose(closed, expected, rtol=1e-4, atol=1e-6)


def test_images_that_a_pooling_passes_over_are_marked():
    _, strength = grad_cam(model(TopFractionPooling), bag(20), to_unit, CLINICAL)
    assert (strength > 0).sum() == 2  # a tenth of 20


def test_an_encoder_without_a_mean_over_positions_is_refused_and_occluded():
    network = model(encoder=timm_encoder("test_vit", norm=None, img_size=32).eval())
    with pytest.raises(InputError, match="occlusion"):
        grad_cam(network, bag(2), to_unit, CLINICAL)
    assert occlusion(network, bag(2), to_unit, CLINICAL).shape == (2, 7, 7)


@torch.no_grad()
def test_occlusion_is_the_change_of_the_bags_logit(monkeypatch):
    monkeypatch.setattr(maps, "CHUNK", 4)
    network, images = model(Attention), bag(3)
    found = occlusion(network, images, to_unit, CLINICAL)
    whole = bag_logit(network, network.encoder(to_unit(images)), CLINICAL)
    row, column, number = 2, 5, 1
    changed = images.clone()
    window = slice(row * 4, row * 4 + 8), slice(column * 4, column * 4 + 8)
    everywhere = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    changed[number][:, *window] = maps.blur_where(everywhere, images[number])[0][:, *window]
    without = bag_logit(network, network.encoder(to_unit(changed)), CLINICAL)
    assert found[number, row, column] == pytest.approx(float(whole - without), abs=1e-6)
    even = images[:1].clone()
    even[:] = 90
    assert torch.allclose(occlusion(network, even, to_unit, CLINICAL), torch.tensor(0.0), atol=1e-6)


ENCODERS = {
    "resnet10": lambda: resnet10(4, norm="group"),
    "resnet18": lambda: torchvision_encoder("resnet18"),
    "efficientnet_b0": lambda: torchvision_encoder("efficientnet_b0"),
    "timm": lambda: timm_encoder("resnet18"),
}


@pytest.mark.parametrize("name", [
    each if each == "resnet10" else pytest.param(each, marks=pytest.mark.slow) for each in ENCODERS
])  # fmt: skip
def test_positions_of_a_map_look_at_these_pixels(name):
    """The middle of the pixels that a position answers to, in a network of even weights."""
    encoder = ENCODERS[name]().eval()
    centre, step = centre_and_step(encoder)
    for module in [*encoder.modules()]:
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        for child, layer in module.named_children():
            if isinstance(layer, nn.BatchNorm2d | nn.GroupNorm):
                setattr(module, child, nn.Identity())
            elif isinstance(layer, nn.MaxPool2d):
                setattr(module, child, nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding))
    pixels = torch.ones(1, 3, 1024, 1024, requires_grad=True)
    with maps._seen(encoder.get_submodule(maps._mean_layer(encoder)), before=True) as seen:
        encoder(pixels)
    place = seen[0].shape[2] // 2
    (gradient,) = torch.autograd.grad(seen[0][0, :, place, place].sum(), pixels)
    rows = gradient[0].sum((0, 2)).double()
    middle = float((rows * torch.arange(1024)).sum() / rows.sum())
    assert middle == pytest.approx(centre + step * place, abs=0.02 * step)


def test_a_map_is_drawn_where_it_looks():
    spot = np.zeros((2, 2))
    spot[0, 1] = 1.0
    drawn = spread(spot, centre=0, step=32, height=64, width=64)
    assert np.unravel_index(drawn.argmax(), drawn.shape) == (0, 32)
    assert drawn[0, 16] == pytest.approx(0.5)
    assert drawn[0, 63] == 1  # constant beyond the last position
    assert drawn[40, 40] == 0
    wide = spread(spot, np.array([0, 8]), np.array([32, 16]), height=64, width=32)
    assert wide[0, 24] == 1  # the second column looks at pixel 8 + 16
    assert wide[0, 16] == pytest.approx(0.5)


class Counted(nn.Module):
    """Channel means of images; keeps how many came at once."""

    dim = 3

    def __init__(self):
        super().__init__()
        self.pool, self.most = nn.AdaptiveAvgPool2d(1), 0

    def forward(self, pixels):
        self.most = max(self.most, len(pixels))
        return self.pool(pixels).flatten(1)


def test_no_more_than_a_chunk_of_images_is_encoded_at_once(monkeypatch):
    network = model(encoder=Counted())
    grad_cam(network, bag(5000, 8), to_unit, CLINICAL)
    few = bag(70, 16)
    whole = occlusion(network, few, to_unit, CLINICAL)
    assert network.encoder.most == maps.CHUNK
    monkeypatch.setattr(cells, "MOST_NUMBERS", 1000)  # four bags at a time
    assert torch.allclose(occlusion(network, few, to_unit, CLINICAL), whole, rtol=0, atol=1e-6)


def seconds(job):
    """The least CPU time of several."""
    times = []
    for _ in range(5):
        started = time.process_time()
        job()
        times.append(time.process_time() - started)
    return min(times)


@pytest.mark.slow
def test_grad_cam_costs_little_more_than_a_forward_pass():
    network, images = model(encoder=torchvision_encoder("resnet18").eval()), bag(128, 64)

    @torch.no_grad()
    def forward():
        for chunk in images.split(maps.CHUNK):
            network.encoder(to_unit(chunk))

    forward()
    assert seconds(lambda: grad_cam(network, images, to_unit, CLINICAL)) < 1.5 * seconds(forward)
