from pathlib import Path

from lymphoml.reports.run_labels import run_labels, settings_label, short_names, varying_settings
from lymphoml.runs.finished_run import read_run
from tests.reports.fabricate import config, make_run


def labels(*configs):
    return [settings_label(settings) for settings in varying_settings(configs)]


def test_the_papers_grid_varies_three_settings():
    grid = []
    for name, momentum in (("SGD", {"momentum": 0.9}), ("Adam", {})):
        for lr in (1e-3, 1e-4):
            optim = {"_target_": f"torch.optim.{name}", "lr": lr} | momentum
            group = {"lr": lr, "optim": optim, "logger.group": f"{name}{lr}"}
            grid += [config(**group), config(**group, scheduler={"_target_": None})]
    found = labels(*grid)
    assert len(set(found)) == 8
    assert (found[0], found[-1]) == (
        "SGD, lr 0.001, ExponentialLR", "Adam, lr 0.0001, no scheduler",
    )  # fmt: skip


def test_an_argument_counts_among_runs_of_the_same_class():
    other = config(**{"optim.momentum": 0.5})
    adam = config(optim={"_target_": "torch.optim.Adam", "lr": 1e-3})
    assert labels(config(), other) == ["momentum 0.9", "momentum 0.5"]
    assert labels(config(), other, adam) == ["SGD, momentum 0.9", "SGD, momentum 0.5", "Adam"]
    fusion = config(**{"model.fusion": {"_target_": "lymphoml.models.fusion.NoFusion"}})
    assert labels(config(), fusion) == ["ConcatFusion", "NoFusion"]
    assert varying_settings([config()]) == [{}]


def test_switches_and_kinds():
    augment = [config(**{"data.augment": {"flip": flip}}) for flip in (True, False)]
    assert labels(*augment) == ["flip", "no flip"]
    averages = [{"kind": None, "decay": None}, {"kind": "ema", "decay": 0.99},
                {"kind": "ema", "decay": 0.9}]  # fmt: skip
    found = labels(*(config(weight_averaging=average) for average in averages))
    assert found == ["no weight averaging", "ema, decay 0.99", "ema, decay 0.9"]


def test_a_key_is_as_long_as_needed():
    assert settings_label({"seed": 1, "model.encoder.seed": 8}) == "seed 1, encoder seed 8"
    assert settings_label({"data.crop": 112}, {"pretrain.crop"}) == "data crop 112"
    assert short_names([Path("runs/a/x"), Path("runs/b/x")]) == ["a/x", "b/x"]


def test_runs_with_equal_or_too_many_settings_go_by_their_folders(tmp_path):
    many = {f"trainer.a_long_setting_{each}": each for each in range(4)}
    for name, changes in (("a", {}), ("b", {}), ("c", many)):
        make_run(tmp_path / name, config(**changes), n=30, epochs=2)
    runs = [read_run(tmp_path / name) for name in "abc"]
    assert list(run_labels(runs[:2]).values()) == ["a", "b"]
    assert list(run_labels(runs[1:]).values()) == ["b", "c"]
