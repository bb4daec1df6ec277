from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lymphoml.core.errors import InputError
from lymphoml.features.blocks import pretrained_block
from lymphoml.features.encoder_weights import check_inputs
from lymphoml.features.pretraining.encoder_file import ENCODER, write_encoder
from lymphoml.models.weights import load_weights

SETTINGS = {"method": "simclr", "crop": 128, "resize": 64,
            "normalize_images": True, "stain_norm": None, "encoder": {}}  # fmt: skip


def data(**changes):
    return SimpleNamespace(**({"normalize_images": True, "stain_norm": None} | changes))


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    write_encoder(tmp_path, nn.Linear(2, 2), {"settings": SETTINGS})
    return tmp_path


def test_what_is_written_is_read_back_and_the_same_each_time(folder, tmp_path_factory):
    network = nn.Linear(2, 2)
    load_weights(network, folder / ENCODER)
    torch.manual_seed(0)
    assert torch.equal(network.weight, nn.Linear(2, 2).weight)
    check_inputs(folder / ENCODER, data())
    other = tmp_path_factory.mktemp("other")
    write_encoder(other, network, {"settings": SETTINGS})
    assert (other / ENCODER).read_bytes() == (folder / ENCODER).read_bytes()


@pytest.mark.parametrize(("key", "learned", "used", "value"), [
    ("normalize_images", True, False, "true"),
    ("stain_norm", None, "macenko", "null"),
    ("stain_norm", "reinhard", None, "reinhard"),
])  # fmt: skip
def test_inputs_of_another_kind_are_refused(tmp_path, key, learned, used, value):
    write_encoder(tmp_path, nn.Linear(2, 2), {"settings": SETTINGS | {key: learned}})
    check_inputs(tmp_path / ENCODER, data(**{key: learned}))
    with pytest.raises(InputError, match=rf"pretrained with data\.{key}={value}; set the same"):
        check_inputs(tmp_path / ENCODER, data(**{key: used}))


def test_files_of_another_origin_are_not_checked(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "plain.safetensors")
    check_inputs(tmp_path / "plain.safetensors", data())
    check_inputs(tmp_path / "none.safetensors", data())


@pytest.mark.parametrize("text", [
    "no json", "[1]", '{"normalize_images": true}', "[" * 100_000,
    '{"normalize_images": true, "stain_norm": "x"}', '{"normalize_images": true, "stain_norm": []}',
])  # fmt: skip
def test_corrupt_metadata_are_refused(tmp_path, text):
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, path, {"lymphoml": text})
    with pytest.raises(InputError, match="metadata are corrupt"):
        check_inputs(path, data())


def test_a_foreign_encoder_larger_than_memory_is_refused(folder):
    spec = {"_target_": "lymphoml.models.encoders.resnet10", "width": 16_000}
    with pytest.raises(InputError, match=r"needs more than|can.t allocate"):
        pretrained_block(folder / ENCODER, SimpleNamespace(**SETTINGS | {"encoder": spec}))
