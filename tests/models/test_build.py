import pytest
import torch
from torch import nn

from lymphoml.core.errors import InputError
from lymphoml.models.build import build, build_model, limit_size

PARAMETERS = [torch.nn.Parameter(torch.zeros(2))]


def test_builds_what_the_target_names():
    optimizer = build({"_target_": "torch.optim.SGD", "lr": 0.5, "momentum": 0.9}, PARAMETERS)
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.defaults["lr"] == 0.5


@pytest.mark.parametrize("target", [
    "os.system",
    "torch.load",
    "torch.optim.lr_scheduler.torch.load",  # reached through what a module imports
    "lymphoml.models.encoders.Path",
    "lymphoml.models.weights.load_weights",
    "lymphoml.models.mil.MILModel.__init__",
    "torch.optim.optimizer._default_to_fused_or_foreach",
    "torch.optim",
    "lymphoml.modelsx.x",
    "",
    "None",
])  # fmt: skip
def test_no_other_target_is_called(target):
    with pytest.raises(InputError, match="must be a class or function of"):
        build({"_target_": target})


def test_invalid_arguments_are_named():
    with pytest.raises(InputError, match="SGD: momentun: no such key; the nearest is momentum"):
        build({"_target_": "torch.optim.SGD", "momentun": 0.9}, PARAMETERS)
    with pytest.raises(InputError, match=r"Invalid learning rate"):
        build({"_target_": "torch.optim.SGD", "lr": -1.0}, PARAMETERS)


@pytest.mark.parametrize("key", ["checkpoint_path", "pretrained_cfg", "cache_dir", "kwargs_filter"])
def test_a_timm_network_takes_no_file_and_no_address(key):
    spec = {"_target_": "lymphoml.models.encoders.timm_encoder", "name": "test_resnet"}
    with pytest.raises(InputError, match=rf"^model\.encoder\.{key}: must be one of attn_drop_rate"):
        build(spec | {key: "/etc/passwd"})
    assert build(spec | {"drop_rate": 0.5}).dim == 96
    with pytest.raises(InputError, match=r"timm_encoder with .*none"):
        build(spec | {"global_pool": "none"})


def test_a_part_of_a_model_comes_from_its_own_module():
    pooling = {"_target_": "lymphoml.models.encoders.resnet10", "weights": "/etc/passwd"}
    spec = {"_target_": "lymphoml.models.mil.MILModel", "pooling": pooling,
            "encoder": {"_target_": "lymphoml.models.encoders.resnet10", "width": 2},
            "fusion": {"_target_": "lymphoml.models.fusion.Concat"}}  # fmt: skip
    for part, parts in (("pooling", "pooling"), ("encoder", "encoders"), ("fusion", "fusion")):
        wrong = {part: pooling if part != "encoder" else {"_target_": "torch.optim.SGD"}}
        with pytest.raises(InputError, match=f"function of lymphoml.models.{parts}$"):
            build_model(spec | wrong, 2)


def test_a_network_is_limited_while_it_is_built():
    with limit_size(20), pytest.raises(InputError, match="needs more than 20 numbers"):
        nn.Linear(2, 7)
    with limit_size(21):
        nn.Linear(2, 7)
    with limit_size(), pytest.raises(InputError, match="has more than"):
        nn.Sequential(*[nn.Identity()] * 10_000)
