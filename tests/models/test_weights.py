"""Encoder weights from files: what is loaded, what is dropped, what is refused."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lymphoml.core.errors import InputError
from lymphoml.models.norms import set_norm
from lymphoml.models.weights import load_weights, trained_norm


class Tiny(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 1)
        self.bn = nn.BatchNorm2d(width)


def save(state, path):
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    return path


def trained(width=4):
    torch.manual_seed(0)
    network = Tiny(width)
    for value in network.state_dict().values():
        value.copy_(torch.rand(value.shape) if value.is_floating_point() else torch.tensor(7))
    return network.state_dict()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_loads_every_tensor(tmp_path, suffix, prefix, capsys):
    state = trained()
    del state["bn.num_batches_tracked"]  # as in older files
    others = {"fusion.both.weight": torch.rand(2)} if prefix else {"fc.weight": torch.rand(2, 4)}
    path = tmp_path / f"weights{suffix}"
    save({prefix + key: value for key, value in state.items()} | others, path)
    network = Tiny()
    load_weights(network, path)
    assert all(torch.equal(network.state_dict()[key], value) for key, value in state.items())
    load_weights(network, path)  # the same line once
    dropped = f"encoder weights: {path}: not part of the encoder, dropped: {', '.join(others)}\n"
    assert capsys.readouterr().out == dropped


def test_statistics_of_batch_norm_are_neither_dropped_nor_made_up(tmp_path):
    batch, group = save(trained(), tmp_path / "batch.pt"), tmp_path / "group.pt"
    assert trained_norm(Tiny(), batch) == "batch"
    network = Tiny()
    set_norm(network, "group")
    with pytest.raises(InputError) as caught:
        load_weights(network, batch)
    assert list(caught.value.problems) == [
        f"encoder weights: {batch} was trained with BatchNorm; set model.encoder.norm=batch or "
        "frozen. It has bn.running_mean, bn.running_var"
    ]
    save(network.state_dict(), group)
    assert trained_norm(Tiny(), group) == "group"
    assert trained_norm(nn.Conv2d(3, 4, 1), group) == "batch"  # it has none to replace
    load_weights(network, group)
    with pytest.raises(
        InputError, match=r"norm=group. It has no bn\.running_mean, bn\.running_var$"
    ):
        load_weights(Tiny(), group)


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


UNREADABLE = "cannot be read as plain tensors"
REFUSED = {
    "absent.pt": (None, "does not exist"),
    "absent.safetensors": (None, "does not exist"),
    "weights.onnx": (b"", "must be null, default, or a .pt"),
    "notes.safetensors": (b"these are not weights", UNREADABLE),
    "list.pt": ([1.0], "is not a state dict"),
    "checkpoint.pt": ({"epoch": 3, "state_dict": {}}, "is not a state dict"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_files_are_refused(tmp_path, name):
    content, message = REFUSED[name]
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / name)
    with pytest.raises(InputError, match=message) as caught:
        load_weights(Tiny(), tmp_path / name)
    assert len(caught.value.problems) == 1
    assert "\n" not in caught.value.problems[0]
