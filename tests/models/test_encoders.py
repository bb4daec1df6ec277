"""Encoders: shapes, refusals, and ImageNet weights without a network."""

from functools import partial

import huggingface_hub.constants
import pytest
import torch
from torchvision import models

from lymphoml.core.errors import InputError
from lymphoml.models.encoders import resnet10, timm_encoder, torchvision_encoder


@pytest.mark.parametrize(("factory", "name", "options", "dim"), [
    (torchvision_encoder, "resnet18", {}, 512),
    (torchvision_encoder, "efficientnet_b0", {}, 1280),
    (timm_encoder, "resnet10t", {}, 512),
    (timm_encoder, "mobilenetv3_small_050", {}, 1024),  # features are wider than `num_features`
    (timm_encoder, "vit_tiny_patch16_224", {"img_size": 32, "depth": 1}, 192),
])  # fmt: skip
@torch.no_grad()
def test_small_images_become_features(factory, name, options, dim):
    encoder = factory(name, **options)
    assert encoder.dim == dim
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, dim)


def test_initialisation_is_torchvisions():
    torch.manual_seed(0)
    encoder = torchvision_encoder("resnet18").state_dict()
    torch.manual_seed(0)
    reference = models.resnet18().state_dict()
    assert set(reference) - set(encoder) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(encoder[key], reference[key]) for key in encoder)


@torch.no_grad()
def test_resnet10_is_torchvisions_except_for_the_stem():
    """The stages of torchvision's ResNet with one block each, from 64 channels."""
    reference = models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1]).eval()
    encoder = resnet10(64).eval()
    stages = (reference.layer1, reference.layer2, reference.layer3, reference.layer4)
    for stage, expected in zip(encoder[4:8], stages, strict=True):
        stage.load_state_dict(expected[0].state_dict())
    halved = encoder[:4](torch.rand(2, 3, 64, 64))
    assert halved.shape == (2, 64, 32, 32)
    expected = halved
    for stage in stages:
        expected = stage(expected)
    torch.testing.assert_close(encoder[4:](halved), expected.mean((2, 3)))
    assert (encoder.dim, resnet10(16).dim) == (512, 128)
    with pytest.raises(InputError, match="ResNet10 has none"):
        resnet10(16, weights="default")
    with pytest.raises(ValueError, match="width is 0"):
        resnet10(0)


def test_an_encoder_that_is_not_trainable_stays_as_it_is():
    torch.manual_seed(0)
    encoder = resnet10(16, norm="frozen", trainable=False).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    features = encoder(torch.rand(4, 3, 32, 32))
    assert not features.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    with pytest.raises(InputError, match="norm=frozen"):
        resnet10(16, norm="batch", trainable=False)
    random = torchvision_encoder("efficientnet_b0", norm="frozen", trainable=False).train()
    images = torch.rand(2, 3, 32, 32)  # through layers with stochastic depth
    assert torch.equal(random(images), random(images))


@pytest.mark.parametrize(("factory", "name", "message"), [
    (torchvision_encoder, "resnet81", "resnet81; must be one of resnet18, resnet34, efficient"),
    (timm_encoder, "resnet81", "did you mean resnet18"),
    (timm_encoder, "xyzzyxyzzy", r"see timm.list_models\(\)"),
    (timm_encoder, "resnet18.bogus", "no weights of that name"),
    (partial(timm_encoder, weights="default"), "ese_vovnet99b", "no weights of that name"),
])  # fmt: skip
def test_unknown_names_are_refused(factory, name, message):
    with pytest.raises(InputError, match=message):
        factory(name)


def test_a_failed_download_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # the discard port: refused at once
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for factory, name in ((torchvision_encoder, "resnet18"), (timm_encoder, "resnet10t")):
        with pytest.raises(InputError, match=f"the download for {name} failed") as caught:
            factory(name, weights="default")
        assert len(caught.value.problems) == 1


def test_default_weights_once_downloaded(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    released = models.resnet18()
    url = models.ResNet18_Weights.DEFAULT.url
    torch.save(released.state_dict(), checkpoints / url.rsplit("/", 1)[-1])
    encoder = torchvision_encoder("resnet18", weights="default", norm="frozen")
    assert torch.equal(encoder.layer4[1].conv2.weight, released.layer4[1].conv2.weight)
