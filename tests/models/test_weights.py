"""Encoder weights from files: what is accepted, what is dropped, what is refused."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from lymphoml.core.errors import InputError
from lymphoml.models.encoders import timm_encoder, torchvision_encoder
from lymphoml.models.fusion import Concat
from lymphoml.models.mil import MILModel
from lymphoml.models.norms import set_norm
from lymphoml.models.pooling import Mean
from lymphoml.models.weights import load_weights


class Tiny(nn.Module):
    def __init__(self, width: int = 4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 1)
        self.bn = nn.BatchNorm2d(width)


def save(state: Any, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def trained(width: int = 4) -> dict[str, Tensor]:
    torch.manual_seed(0)
    network = Tiny(width)
    for value in network.state_dict().values():
        value.copy_(torch.rand(value.shape) if value.is_floating_point() else torch.tensor(7))
    return network.state_dict()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_loads_every_tensor(tmp_path, suffix, prefix):
    state = trained()
    others = {"fusion.both.weight": torch.rand(2)} if prefix else {"fc.weight": torch.rand(2, 4)}
    path = tmp_path / f"weights{suffix}"
    save({prefix + key: value for key, value in state.items()} | others, path)
    network = Tiny()
    load_weights(network, path)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_accepts_torchvisions_own_files(tmp_path):
    released = models.resnet18()
    path = save(released.state_dict(), tmp_path / "resnet18.pth")
    encoder = torchvision_encoder("resnet18", weights=str(path), norm="frozen")
    assert torch.equal(encoder.layer4[1].conv2.weight, released.layer4[1].conv2.weight)


def test_accepts_a_whole_mil_model(tmp_path):
    encoder = timm_encoder("resnet10t")
    model = MILModel(encoder, Mean(encoder.dim), Concat(encoder.dim, 2))
    path = save(model.state_dict(), tmp_path / "model.pt")
    again = timm_encoder("resnet10t", weights=str(path))
    assert torch.equal(again.conv1[0].weight, encoder.conv1[0].weight)


@pytest.mark.parametrize("saved_as", ["batch", "group"])
def test_group_norm_has_no_use_for_statistics(tmp_path, saved_as):
    saved = Tiny()
    saved.load_state_dict(trained())
    set_norm(saved, saved_as)
    network = Tiny()
    set_norm(network, "group")
    load_weights(network, save(saved.state_dict(), tmp_path / "weights.pt"))
    assert torch.equal(network.bn.weight, saved.bn.weight)


def test_batch_norm_needs_them(tmp_path):
    saved = Tiny()
    set_norm(saved, "group")
    path = save(saved.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"has no bn\.running_mean, bn\.running_var$"):
        load_weights(Tiny(), path)


def test_older_files_lack_the_batch_counter(tmp_path):
    state = trained()
    del state["bn.num_batches_tracked"]
    network = Tiny()
    load_weights(network, save(state, tmp_path / "weights.pth"))
    assert torch.equal(network.bn.running_mean, state["bn.running_mean"])


def test_tells_everything_that_does_not_fit_and_loads_nothing(tmp_path):
    state = trained(width=5)
    del state["conv.bias"]
    state["layer9.weight"] = torch.rand(1)
    path = save(state, tmp_path / "weights.pt")
    network = Tiny()
    before = network.conv.weight.clone()
    with pytest.raises(InputError) as caught:
        load_weights(network, path)
    assert caught.value.problems == (
        f"encoder weights: {path} has no conv.bias",
        f"encoder weights: {path} has, unlike the encoder, layer9.weight",
        f"encoder weights: {path} has the shape conv.weight (5, 3, 1, 1) instead of (4, 3, 1, 1), "
        "bn.weight (5,) instead of (4,), bn.bias (5,) instead of (4,) and 2 more",
    )
    assert torch.equal(network.conv.weight, before)


def test_a_deeper_network_is_not_half_loaded(tmp_path):
    path = save(torchvision_encoder("resnet34").state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(InputError, match=r"unlike the encoder, layer1\.2\.conv1\.weight"):
        torchvision_encoder("resnet18", weights=str(path))


class Malicious:
    def __reduce__(self):
        return print, ("code from a weights file ran",)


UNREADABLE = "cannot be read as plain tensors"
REFUSED = {
    "absent.pt": (None, "does not exist"),
    "absent.safetensors": (None, "does not exist"),
    "weights.bin": (b"", "must be null, default, or a .pt"),
    "empty.pt": (b"", UNREADABLE),
    "notes.pth": (b"these are not weights", UNREADABLE),
    "notes.safetensors": (b"these are not weights", UNREADABLE),
    "pickle.pt": (pickle.dumps(Malicious(), protocol=2), UNREADABLE),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_is_no_weights_file(tmp_path, capsys, name):
    content, told = REFUSED[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=told) as caught:
        load_weights(Tiny(), tmp_path / name)
    assert len(caught.value.problems) == 1
    assert "\n" not in caught.value.problems[0]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [[1.0], {"epoch": 3, "state_dict": {}}])
def test_refuses_what_is_no_state_dict(tmp_path, content):
    with pytest.raises(InputError, match="is not a state dict"):
        load_weights(Tiny(), save(content, tmp_path / "checkpoint.pt"))


def test_malicious_checkpoint_runs_nothing(tmp_path, capsys):
    path = save({"conv.weight": Malicious()}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=UNREADABLE):
        load_weights(Tiny(), path)
    assert capsys.readouterr().out == ""
