"""Averaged weights: which average, who uses it, and that learning does not change."""

import copy

import pytest
import torch

from lymphoml.core.errors import InputError
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.training.callbacks import History
from lymphoml.training.checkpoint import load_checkpoint
from tests.promises.jobs import configuration

EMA = ["weight_averaging=ema", "weight_averaging.decay=0.9"]
SWA = ["weight_averaging=swa", "weight_averaging.start=0.4"]
STEPS = ["fold=0", "optim=adam", "lr=1e-2", "data.batch_size=3", "trainer.max_epochs=5"]
CLINICAL = ["model/fusion=clinical", *STEPS]
NETWORK = ["model.encoder.norm=batch", "data.augment.flip=true", *STEPS, "trainer.max_epochs=2"]


@pytest.fixture
def train(cohort, tmp_path):
    def run(name, *overrides):
        cross_validate(configuration(cohort, tmp_path / "cache", *overrides), tmp_path / name)
        return tmp_path / name

    return run


@pytest.fixture
def steps(monkeypatch):
    """The learning weights after each step, by epoch."""
    epochs: list[list[dict]] = []
    original = History.on_train_batch_end

    def spy(self, trainer, module, outputs, batch, i):
        if i == 0:
            epochs.append([])
        epochs[-1].append(copy.deepcopy(module.state_dict()))
        original(self, trainer, module, outputs, batch, i)

    monkeypatch.setattr(History, "on_train_batch_end", spy)
    return epochs


def last(run):
    return load_checkpoint(run / "fold-0" / "last.ckpt")


def assert_same(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], **tolerance)


def test_ema_is_the_recursion_over_all_steps(train, steps):
    saved = last(train("ema", *CLINICAL, *EMA))
    every = [step for epoch in steps for step in epoch]
    expected = every[0]
    for step in every[1:]:
        expected = {name: 0.9 * expected[name] + 0.1 * step[name] for name in step}
    assert_same(saved["state_dict"], expected)
    assert_same(saved["current_model_state"], every[-1], rtol=0, atol=0)


def test_swa_is_the_mean_of_the_last_epochs_ends(train, steps):
    saved = last(train("swa", *CLINICAL, *SWA))
    ends = [epoch[-1] for epoch in steps[2:]]  # after 0.4 of 5 epochs
    assert len(ends) == 3
    assert_same(saved["state_dict"], {name: sum(end[name] for end in ends) / 3 for name in ends[0]})


@pytest.mark.parametrize("overrides", [EMA, SWA], ids=["ema", "swa"])
def test_learning_is_the_same_and_batch_norm_is_averaged_too(train, overrides):
    averaged = last(train("averaged", *NETWORK, *overrides, "model/fusion=additive"))
    plain = last(train("additive", *NETWORK, "model/fusion=additive"))
    current, average = averaged["current_model_state"], averaged["state_dict"]
    assert_same(current, plain["state_dict"], rtol=0, atol=0)
    for name, value in average.items():
        if "fusion.clinical" in name:  # frozen: it keeps its bits
            assert torch.equal(value, current[name])
        elif "running" in name or name.endswith("conv1.weight"):
            assert not torch.equal(value, current[name])


@pytest.mark.parametrize(("part", "change"), [
    ("current_model_state", lambda state: state.pop("model.fusion.clinical.bias")),
    ("averaging_state", lambda state: state.clear()),
    ("averaging_state", lambda state: state.update(n_averaged=torch.zeros(2))),
])  # fmt: skip
def test_a_changed_average_is_not_resumed(train, monkeypatch, part, change):
    overrides = [*CLINICAL, *EMA, "trainer.max_epochs=1"]
    run = train("run", *overrides)
    (run / "fold-0" / "done.json").unlink()
    content = last(run)
    change(content[part])
    monkeypatch.setattr("lymphoml.training.checkpoint.torch.load", lambda *_, **__: content)
    with pytest.raises(InputError):
        train("run", *overrides)
