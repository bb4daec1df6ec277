"""Averaged weights: which average, who sees it, and that BatchNorm's statistics are its own."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from torch.optim.swa_utils import update_bn

from lymphoml.cli.config import run_config
from lymphoml.core.errors import InputError
from lymphoml.runs import cross_validation as training
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.runs.predict import predict
from lymphoml.training.callbacks import History
from lymphoml.training.checkpoint import load_checkpoint
from lymphoml.training.lightning_module import BagClassifier
from tests.promises.jobs import configuration

EMA = ["weight_averaging=ema", "weight_averaging.decay=0.9"]
SWA = ["weight_averaging=swa", "weight_averaging.start=0.4"]
STEPS = ["fold=0", "optim=adam", "lr=1e-2", "data.batch_size=3", "trainer.max_epochs=5"]
CLINICAL = ["model/fusion=clinical", *STEPS]
NETWORK = ["model.encoder.norm=batch", "data.augment.flip=true", *STEPS, "trainer.max_epochs=3"]


@pytest.fixture
def train(cohort, tmp_path):
    def run(name, *words):
        cross_validate(configuration(cohort, tmp_path / "cache", *words), tmp_path / name)
        return tmp_path / name

    return run


@pytest.fixture
def seen(monkeypatch):
    """The learning weights after each step, by epoch."""
    steps: list[list[dict]] = []
    original = History.on_train_batch_end

    def spy(self, trainer, module, outputs, batch, i):
        if i == 0:
            steps.append([])
        steps[-1].append(copy.deepcopy(module.state_dict()))
        original(self, trainer, module, outputs, batch, i)

    monkeypatch.setattr(History, "on_train_batch_end", spy)
    return steps


def last(run):
    return load_checkpoint(run / "fold-0" / "last.ckpt")


def same(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], **tolerance)


def test_ema_is_the_recursion_over_all_steps(train, seen):
    kept = last(train("ema", *CLINICAL, *EMA))
    steps = [step for epoch in seen for step in epoch]
    expected = steps[0]
    for step in steps[1:]:
        expected = {name: 0.9 * expected[name] + 0.1 * step[name] for name in step}
    same(kept["state_dict"], expected)
    same(kept["current_model_state"], steps[-1], rtol=0, atol=0)


def test_swa_is_the_mean_of_the_last_epochs_ends(train, seen):
    kept = last(train("swa", *CLINICAL, *SWA))
    ends = [epoch[-1] for epoch in seen[2:]]  # after 0.4 of 5 epochs
    assert len(ends) == 3
    same(kept["state_dict"], {name: sum(end[name] for end in ends) / 3 for name in ends[0]})


@pytest.mark.parametrize("words", [EMA, SWA], ids=["ema", "swa"])
def test_learning_goes_on_as_if_nobody_averaged(train, words):
    plain, averaged = (last(train(name, *NETWORK, *more)) for name, more in
                       (("plain", []), ("averaged", words)))  # fmt: skip
    same(averaged["current_model_state"], plain["state_dict"], rtol=0, atol=0)
    assert any(
        not torch.equal(value, averaged["current_model_state"][name])
        for name, value in averaged["state_dict"].items()
    )


@pytest.mark.parametrize("words", [EMA, SWA], ids=["ema", "swa"])
@pytest.mark.parametrize("every", [1, 2])
def test_batch_norm_has_the_statistics_of_the_averaged_weights(train, words, every, monkeypatch):
    """Also where the last epoch is not validated. The oracle is torch's own."""
    found = {}

    class Kept(training.BagDataModule):
        def __init__(self, *args):
            super().__init__(*args)
            found["bags"] = self

    monkeypatch.setattr(training, "BagDataModule", Kept)
    more = ["model/pooling=sigmoid_weighted_mean", f"trainer.check_val_every_n_epoch={every}"]
    run = train("run", *NETWORK, *words, *more)
    kept, bags = last(run), found["bags"]
    module = BagClassifier(**kept["hyper_parameters"])
    module.load_state_dict(kept["state_dict"])
    for buffer in module.buffers():
        buffer.fill_(0.5)
    module.forward = lambda batch: module.model.pool(
        module.embed(batch, bags.transform), batch.lengths
    )
    update_bn([[batch] for batch in bags.training_batches(2)], module)
    names = [name for name, _ in module.named_buffers()]
    assert {"model.pooling.norm.running_var", "model.encoder.bn1.running_var"} <= set(names)
    for name in names:
        torch.testing.assert_close(
            kept["state_dict"][name].float(), module.state_dict()[name].float(),
            rtol=0.02, atol=0.01,
        )  # fmt: skip
        if "running" in name:  # the two really differ here
            assert not torch.equal(kept["state_dict"][name], kept["current_model_state"][name])


def test_what_is_validated_reported_and_predicted_is_the_average(train, cohort, tmp_path):
    run = train("run", *NETWORK, *EMA, "fold=all")
    rows = pd.read_csv(run / "fold-0" / "history.csv")
    table = pd.read_csv(run / "fold-0" / "predictions.csv")
    p = table["probability"].clip(1e-7, 1 - 1e-7)
    loss = -np.where(table["label"] == 1, np.log(p), np.log(1 - p)).mean()
    assert rows["val/loss"].iloc[-1] == pytest.approx(loss, rel=1e-4)
    again = predict(
        run,
        {run: run_config(run, {"root": str(cohort)}, {})},
        tmp_path / "out",
        "all",
        ("ID", "LABEL"),
    ).set_index("patient")["probability"]
    stored = pd.read_csv(run / "predictions.csv").set_index("patient")["probability"]
    np.testing.assert_array_equal(again[stored.index], stored)


def test_the_selected_checkpoint_holds_the_average(train):
    run = train("run", *NETWORK, *EMA, "data.inner_val_fraction=0.3", "trainer.max_epochs=1")
    selected = load_checkpoint(run / "fold-0" / "selected.ckpt")
    same(selected["state_dict"], last(run)["state_dict"], rtol=0, atol=0)


def test_weights_that_stay_keep_their_bits(train):
    kept = last(train("run", *NETWORK, *EMA, "model/fusion=additive"))
    for name in ("model.fusion.clinical.weight", "model.fusion.clinical.bias"):
        assert torch.equal(kept["state_dict"][name], kept["current_model_state"][name])


def test_a_foreign_state_that_does_not_fit_is_refused(train, monkeypatch):
    words = [*CLINICAL, *EMA]
    run = train("run", *words)
    (run / "fold-0" / "done.json").unlink()
    good = last(run)
    for change, says in (
        (lambda content: content["current_model_state"].pop("model.fusion.clinical.bias"), "weigh"),
        (lambda content: content["averaging_state"].clear(), "its average does not tell"),
        (lambda content: content.pop("averaging_state"), "its average does not tell"),
    ):
        content = copy.deepcopy(good)
        change(content)
        monkeypatch.setattr(
            "lymphoml.training.checkpoint.torch.load", lambda *_, content=content, **__: content
        )
        with pytest.raises(InputError, match=says):
            train("run", *words)
    monkeypatch.undo()


def test_epochs_that_were_not_validated_refresh_nothing(train, monkeypatch):
    seen = []
    original = training.BagDataModule.training_batches
    monkeypatch.setattr(
        training.BagDataModule, "training_batches",
        lambda self, epoch: seen.append(epoch) or original(self, epoch),
    )  # fmt: skip
    train("run", *NETWORK, *EMA, "trainer.check_val_every_n_epoch=2", "trainer.max_epochs=3")
    assert seen == [1, 2]
