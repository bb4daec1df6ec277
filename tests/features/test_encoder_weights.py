"""Folders of timm and transformers: which file, network and preprocessing they name."""

import json
import re

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file

from lymphoml.cli.config import compose_config
from lymphoml.core.errors import InputError
from lymphoml.features.encoder_weights import check_inputs, find_file, resolve_weights, trained_with
from lymphoml.models.build import build

TIMM = {"_target_": "lymphoml.models.encoders.timm_encoder", "name": "vit_small_patch14_dinov2"}
DATA = {"normalize_images": None, "crop": None, "resize": None}
HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
DINOV2 = {"model_type": "dinov2_with_registers", "hidden_size": 16, "num_hidden_layers": 1,
          "num_attention_heads": 2, "patch_size": 14, "num_register_tokens": 4,
          "image_size": 518, "layer_norm_eps": 1e-6, "hidden_act": "gelu"}  # fmt: skip
SEEN = {"image_mean": IMAGENET["mean"], "image_std": IMAGENET["std"], "do_normalize": True,
        "do_center_crop": True, "crop_size": {"height": 28, "width": 28},
        "size": {"shortest_edge": 32}, "rescale_factor": 1 / 255}  # fmt: skip
OF_TIMM = {"architecture": "vit_small_patch14_dinov2", "num_classes": 0,
           "model_args": {"embed_dim": 16, "depth": 1, "num_heads": 2, "num_classes": 0},
           "pretrained_cfg": {**HALF, "input_size": [3, 28, 28]}}  # fmt: skip


def published(folder, config, preprocessor=None, name="model.safetensors"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    small = {"img_size": 28, "embed_dim": 16, "depth": 1, "num_heads": 2}
    save_file(build(TIMM | small).state_dict(), folder / name)
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """hf-hub:org/net of timm in a local cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--org--net"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    return published(repository / "snapshots" / "c0ffee", OF_TIMM)


def test_a_folder_of_transformers_decides_what_is_left_open(tmp_path, capsys):
    folder = published(tmp_path / "dinov2", DINOV2, SEEN)
    encoder, data = resolve_weights(TIMM | {"weights": str(folder)}, DATA)
    assert encoder == TIMM | {
        "weights": str(folder / "model.safetensors"), "embed_dim": 16, "depth": 1, "num_heads": 2,
        "patch_size": 14, "reg_tokens": 4, "no_embed_class": True, "img_size": 28,
    }  # fmt: skip
    assert data == {"normalize_images": True, "crop": None, "resize": 28}
    printed = capsys.readouterr().out
    assert printed.startswith(f"encoder weights: {folder}: ")
    for word in ("data.normalize_images=true", "data.resize=28", "model.encoder.num_heads=2"):
        assert word in printed
    path = published(folder, DINOV2, SEEN | {"do_normalize": False}) / "model.safetensors"
    assert trained_with(path)["normalize_images"] is False


def test_what_was_given_stays_and_a_line_says_so(tmp_path, capsys):
    folder = published(tmp_path / "timm", OF_TIMM)
    given = {"normalize_images": HALF, "crop": 56, "resize": None}
    encoder, data = resolve_weights(TIMM | {"weights": str(folder)}, given)
    assert data == given
    assert encoder["img_size"] == 56
    assert "its images had 28 pixels a side, here they have 56" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"num_heads=4: .* has 2 by its config.json; set the same"):
        resolve_weights(TIMM | {"weights": str(folder), "num_heads": 4}, DATA)
    with pytest.raises(InputError, match=r"name=resnet18: .* has vit_small_patch14_dinov2 by its"):
        resolve_weights(TIMM | {"weights": str(folder), "name": "resnet18"}, DATA)


def test_a_file_that_says_nothing_gets_a_line(tmp_path, capsys):
    path = tmp_path / "DinoBloom-S.pth"
    path.touch()
    encoder, data = resolve_weights(TIMM | {"weights": str(path)}, DATA | {"resize": 224})
    assert (encoder["img_size"], data["normalize_images"]) == (224, False)
    assert "many need data.normalize_images=true\n" in capsys.readouterr().out
    assert resolve_weights(TIMM | {"weights": None}, DATA)[1]["normalize_images"] is False
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("words", [
    {"name": "hf-hub:org/net", "weights": "default"}, {"weights": "hf-hub:org/net@c0ffee"},
])  # fmt: skip
def test_names_of_the_hub_are_found_in_its_cache(words, hub):
    encoder, data = resolve_weights(TIMM | words, DATA)
    assert encoder["weights"] == str(hub / "model.safetensors")
    assert encoder["name"] == "vit_small_patch14_dinov2"
    assert data["normalize_images"] == HALF
    network, own = build(encoder).eval(), torch.rand(1, 3, 28, 28)
    assert network(own).shape == (1, 16)


def test_nothing_is_fetched(hub, monkeypatch):
    """the command is printed instead"""
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection"))
    with pytest.raises(InputError, match=r"fetch it with: hf download org/other --revision v1$"):
        find_file("hf-hub:org/other@v1")
    for wrong in ("hf-hub:org", "hf-hub:../../etc", "hf-hub:org/net@../x"):
        with pytest.raises(InputError, match="must be hf-hub:ORG/NAME"):
            find_file(wrong)


@pytest.mark.parametrize("weights", ["default", None, "pretrained"])
def test_released_weights_have_imagenets_statistics(weights):
    words = [] if weights is None else [f"model.encoder.weights={weights}"]
    config = compose_config("data=synthetic", "data.root=x", "model/encoder=resnet18", *words)
    assert config.data.normalize_images is (weights == "default")


def test_statistics_of_ones_own_are_written_as_they_are_read(tmp_path):
    folder = published(tmp_path / "timm", OF_TIMM)
    words = ["data=synthetic", "data.root=x", "model/encoder=timm",
             f"model.encoder.name={TIMM['name']}", f"model.encoder.weights={folder}"]  # fmt: skip
    config = compose_config(*words)
    assert config.data.to_dict()["normalize_images"] == HALF
    check_inputs(folder / "model.safetensors", config.data)
    other = compose_config(*words, "data.normalize_images=true").data
    with pytest.raises(InputError, match="was pretrained with") as caught:
        check_inputs(folder / "model.safetensors", other)
    word = re.search(r"data\.normalize_images='(.*)'", caught.value.problems[0])[1]
    assert compose_config(*words, f"data.normalize_images={word}") == config


def test_folders_without_tensors_are_refused(tmp_path):
    for gone in ("gone", "~nobody-of-this-name/w.pt", "x" * 5000, "nul\0"):
        with pytest.raises(InputError, match="does not exist"):
            find_file(gone)
    with pytest.raises(InputError, match=r"has no model.safetensors or pytorch_model.bin"):
        find_file(str(tmp_path))
    published(tmp_path, OF_TIMM, name="pytorch_model.bin")
    assert find_file(str(tmp_path)).name == "pytorch_model.bin"
