"""Benchmark sets through a whole job, `experiment=mil_table`."""

import json

import numpy as np
import pytest

from lymphoml.cli.config import compose_config
from lymphoml.core.errors import InputError
from lymphoml.reports.page.page import write_report
from lymphoml.runs import cross_validation as training
from tests.data.mil_files import draw_mil_bags, write_mil_bags
from tests.promises.jobs import refused


def configured(folder, table, *overrides):
    words = ["experiment=mil_table", f"data.root={folder}", f"data.table={table}", "logger=none",
             "trainer.enable_progress_bar=false", "trainer.num_threads=1", "data.repeats=1",
             *overrides]  # fmt: skip
    return compose_config(*words)


@pytest.mark.parametrize("suffix", [".npz", pytest.param(".csv", marks=pytest.mark.slow)])
def test_a_planted_signal_is_found(suffix, tmp_path):
    table = f"set{suffix}"
    write_mil_bags(tmp_path / table, draw_mil_bags(40))
    config = configured(tmp_path, table, "data.folds=2", "trainer.max_epochs=20", "lr=5e-3")
    run = tmp_path / "run"
    training.cross_validate(config, run)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["scores"]["all"]["auroc"]["low"] > 0.8
    assert metrics["scores"]["all"]["accuracy"]["low"] > 0.7


def test_features_need_no_layers_of_their_own(tmp_path):
    """Until the file is open its width is unknown, and one feature would be a score already."""
    write_mil_bags(tmp_path / "set.csv", draw_mil_bags(20))
    config = configured(tmp_path, "set.csv", "data.folds=2", "trainer.max_epochs=1",
                        "model/encoder=identity", "model/pooling=mean")  # fmt: skip
    training.cross_validate(config, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.json").exists()


def test_bags_without_a_signal_are_chance(tmp_path):
    bags = draw_mil_bags(60)
    labels = np.random.default_rng(1).permutation([label for label, _ in bags.values()])
    rows = [each for _, each in bags.values()]
    bags = dict(zip(bags, zip(labels.tolist(), rows, strict=True), strict=True))
    write_mil_bags(tmp_path / "set.csv", bags)
    config = configured(tmp_path, "set.csv", "data.folds=3", "trainer.max_epochs=5")
    training.cross_validate(config, tmp_path / "run")
    auroc = json.loads((tmp_path / "run" / "metrics.json").read_text())["auroc"]
    assert auroc["low"] < 0.5 < auroc["high"]


def test_its_page_says_why_there_are_no_pictures(tmp_path):
    write_mil_bags(tmp_path / "set.csv", draw_mil_bags(20))
    config = configured(tmp_path, "set.csv", "data.folds=2", "trainer.max_epochs=1")
    run = tmp_path / "run"
    training.cross_validate(config, run)
    page = write_report(run, run / "report.html").read_text()
    assert "feature vectors, not images" in page


@pytest.mark.parametrize("override", ["model/encoder=resnet18", "data/features=morphology"])
def test_it_has_no_images(override, tmp_path):
    write_mil_bags(tmp_path / "set.csv", draw_mil_bags(20))
    with pytest.raises(InputError, match=r"data\.layout=mil_table") as caught:
        training.cross_validate(configured(tmp_path, "set.csv", override), tmp_path / "run")
    assert len(caught.value.problems) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["audit", "features"])
def test_commands_that_look_at_images_refuse_it(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_mil_bags(tmp_path / "set.csv", draw_mil_bags(20))
    words = ["cohort=mil_table", "data.root=.", "data.table=set.csv"]
    assert command in refused(capsys, command, *words)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "set.csv"]
