import pytest
import torch

from lymphoml.core.errors import InputError
from lymphoml.models.build import build

PARAMETERS = [torch.nn.Parameter(torch.zeros(2))]


def test_builds_what_the_target_names():
    optimizer = build({"_target_": "torch.optim.SGD", "lr": 0.5, "momentum": 0.9}, PARAMETERS)
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.defaults["lr"] == 0.5


@pytest.mark.parametrize("target", [
    "os.system",
    "builtins.eval",
    "torch.load",
    "pathlib.Path.unlink",
    "pandas.read_pickle",
    "torch.optim.lr_scheduler.torch.load",        # reached through what a module imports
    "lymphoml.models.weights.torch.load",
    "lymphoml.models.encoders.Path",
    "lymphoml.models.mil.MILModel.__init__",
    "torch.optim.optimizer._default_to_fused_or_foreach",
    "torch.optim",
    "lymphoml.nnn.x",
    "",
    "None",
])  # fmt: skip
def test_no_other_target_is_called(target):
    with pytest.raises(InputError, match="must be a class or function of"):
        build({"_target_": target})


def test_an_argument_the_target_does_not_take_is_named():
    with pytest.raises(InputError, match=r"torch.optim.SGD: .*'momentun'"):
        build({"_target_": "torch.optim.SGD", "momentun": 0.9}, PARAMETERS)


def test_a_value_the_target_refuses_is_told():
    with pytest.raises(InputError, match=r"Invalid learning rate"):
        build({"_target_": "torch.optim.SGD", "lr": -1.0}, PARAMETERS)
