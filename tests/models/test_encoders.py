"""Encoders: shapes, refusals, and ImageNet weights without a network."""

import huggingface_hub.constants
import pytest
import torch
from torchvision import models

from lymphoml.core.errors import InputError
from lymphoml.models.encoders import resnet10, timm_encoder, torchvision_encoder


@pytest.mark.parametrize(
    ("factory", "name", "dim"),
    [
        (torchvision_encoder, "resnet18", 512),
        (torchvision_encoder, "efficientnet_b0", 1280),
        (timm_encoder, "resnet10t", 512),
        (timm_encoder, "mobilenetv3_small_050", 1024),  # features are wider than `num_features`
    ],
)
@torch.no_grad()
def test_small_images_become_features(factory, name, dim):
    encoder = factory(name)
    assert encoder.dim == dim
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, dim)


def test_resnet34_is_a_resnet_with_more_blocks():
    encoder = torchvision_encoder("resnet34")
    assert encoder.dim == 512
    assert len(encoder.layer3) == 6


@torch.no_grad()
def test_vision_transformer_of_a_given_size():
    encoder = timm_encoder("vit_tiny_patch16_224", img_size=32, depth=1)
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, encoder.dim)


def test_initialisation_is_torchvisions():
    torch.manual_seed(0)
    ours = torchvision_encoder("resnet18").state_dict()
    torch.manual_seed(0)
    theirs = models.resnet18().state_dict()
    assert set(theirs) - set(ours) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@torch.no_grad()
def test_resnet10_is_torchvisions_but_for_the_stem():
    """The stages of torchvision's ResNet with one block each, from 64 channels."""
    theirs = models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1]).eval()
    ours = resnet10(64).eval()
    stages = [ours[4], ours[5], ours[6], ours[7]]
    for stage, one in zip(stages, (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4),
                          strict=True):  # fmt: skip
        stage.load_state_dict(one[0].state_dict())
    halved = ours[:4](torch.rand(2, 3, 64, 64))
    assert halved.shape == (2, 64, 32, 32)
    expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(halved)))).mean((2, 3))
    torch.testing.assert_close(ours[4:](halved), expected)
    assert (ours.dim, resnet10(32).dim, resnet10(16).dim) == (512, 256, 128)


def test_resnet10_has_no_weights_of_its_own():
    with pytest.raises(InputError, match="ResNet10 has none"):
        resnet10(16, weights="default")
    with pytest.raises(ValueError, match="width is 0"):
        resnet10(0)


def test_an_encoder_that_does_not_learn_stays_as_it_began():
    torch.manual_seed(0)
    encoder = torchvision_encoder("resnet18", norm="frozen", trainable=False).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    features = encoder(torch.rand(4, 3, 32, 32))
    assert not features.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    with pytest.raises(InputError, match="norm=frozen"):
        resnet10(16, norm="batch", trainable=False)


@pytest.mark.parametrize("norm", ["batch", "group", "frozen"])
@pytest.mark.parametrize("make", [lambda norm: torchvision_encoder("resnet18", norm=norm),
                                  lambda norm: resnet10(16, norm=norm)])  # fmt: skip
def test_every_parameter_learns(make, norm):
    torch.manual_seed(0)
    encoder = make(norm).train()
    encoder(torch.rand(4, 3, 32, 32)).square().sum().backward()
    assert all((parameter.grad != 0).any() for parameter in encoder.parameters())


@pytest.mark.parametrize(
    ("factory", "name", "told"),
    [
        (torchvision_encoder, "resnet81", "resnet81; must be one of resnet18, resnet34, efficient"),
        (timm_encoder, "resnet81", "did you mean resnet18"),
        (timm_encoder, "xyzzyxyzzy", r"see timm.list_models\(\)"),
        (timm_encoder, "resnet18.bogus", "no weights of that name"),
    ],
)
def test_unknown_name(factory, name, told):
    with pytest.raises(InputError, match=told):
        factory(name)


def test_timm_without_default_weights():
    with pytest.raises(InputError, match="no weights of that name"):
        timm_encoder("ese_vovnet99b", weights="default")


def test_no_network_for_torchvision(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # the discard port: refused at once
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(InputError, match="the download for resnet18 failed") as caught:
        torchvision_encoder("resnet18", weights="default")
    assert len(caught.value.problems) == 1
    assert "the path of a file, or to null" in caught.value.problems[0]


def test_no_network_for_timm(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="the download for resnet10t failed"):
        timm_encoder("resnet10t", weights="default")


def test_default_weights_once_downloaded(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    released = models.resnet18()
    url = models.ResNet18_Weights.DEFAULT.url
    torch.save(released.state_dict(), checkpoints / url.rsplit("/", 1)[-1])
    encoder = torchvision_encoder("resnet18", weights="default", norm="frozen")
    assert torch.equal(encoder.layer4[1].conv2.weight, released.layer4[1].conv2.weight)
