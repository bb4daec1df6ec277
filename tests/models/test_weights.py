"""Encoder weights from files: what is loaded, what is dropped, what is refused."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lymphoml.core.errors import InputError
from lymphoml.models.norms import set_norm
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


def test_group_norm_needs_no_statistics_and_batch_norm_does(tmp_path):
    path = save(trained(), tmp_path / "batch.pt")
    network = Tiny()
    set_norm(network, "group")
    load_weights(network, path)
    assert torch.equal(network.bn.weight, trained()["bn.weight"])
    path = save(network.state_dict(), tmp_path / "group.pt")
    with pytest.raises(InputError, match=r"has no bn\.running_mean, bn\.running_var$"):
        load_weights(Tiny(), path)


def test_the_batch_counter_may_be_missing(tmp_path):
    state = trained()
    del state["bn.num_batches_tracked"]
    network = Tiny()
    load_weights(network, save(state, tmp_path / "weights.pth"))
    assert torch.equal(network.bn.running_mean, state["bn.running_mean"])


def test_everything_that_misfits_is_listed_and_nothing_is_loaded(tmp_path):
    state = trained(width=5)
    del state["conv.bias"]
    state["layer9.weight"] = torch.rand(1)
    path = save(state, tmp_path / "weights.pt")
    network = Tiny()
    before = network.conv.weight.clone()
    with pytest.raises(InputError) as caught:
        load_weights(network, path)
    missing, unknown, shapes = caught.value.problems
    assert "has no conv.bias" in missing
    assert "unlike the encoder, layer9.weight" in unknown
    assert "conv.weight (5, 3, 1, 1) instead of (4, 3, 1, 1)" in shapes
    assert torch.equal(network.conv.weight, before)


class Malicious:
    def __reduce__(self):
        return print, ("code from a weights file ran",)


UNREADABLE = "cannot be read as plain tensors"
REFUSED = {
    "absent.pt": (None, "does not exist"),
    "absent.safetensors": (None, "does not exist"),
    "weights.bin": (b"", "must be null, default, or a .pt"),
    "empty.pt": (b"", UNREADABLE),
    "notes.safetensors": (b"these are not weights", UNREADABLE),
    "pickle.pt": (pickle.dumps(Malicious(), protocol=2), UNREADABLE),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_files_are_refused(tmp_path, capsys, name):
    content, message = REFUSED[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_weights(Tiny(), tmp_path / name)
    assert len(caught.value.problems) == 1
    assert "\n" not in caught.value.problems[0]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [[1.0], {"epoch": 3, "state_dict": {}}])
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    with pytest.raises(InputError, match="is not a state dict"):
        load_weights(Tiny(), save(content, tmp_path / "checkpoint.pt"))
