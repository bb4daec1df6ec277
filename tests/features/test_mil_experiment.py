"""Benchmark sets through a whole job, `experiment=mil_table`."""

import json

import pytest

from lymphoml.cli.config import compose_config
from lymphoml.core.errors import InputError
from lymphoml.reports.page.page import write_report
from lymphoml.runs import cross_validation as training
from tests.data.mil_files import draw_mil_bags, write_mil_bags
from tests.promises.jobs import refused

# Random forests of 100 trees take longer than the trainings.
pytestmark = pytest.mark.usefixtures("few_trees")


def configured(folder, *overrides, table="set.csv", bags=20):
    write_mil_bags(folder / table, draw_mil_bags(bags))
    return compose_config(
        "experiment=mil_table", f"data.root={folder}", f"data.table={table}", "logger=none",
        "trainer.enable_progress_bar=false", "trainer.num_threads=1", "data.repeats=1",
        "data.folds=2", *overrides,
    )  # fmt: skip


@pytest.mark.parametrize("suffix", [".npz", pytest.param(".csv", marks=pytest.mark.slow)])
def test_a_planted_signal_is_found(suffix, tmp_path):
    words = ("trainer.max_epochs=5", "lr=2e-2")
    config = configured(tmp_path, *words, table=f"set{suffix}", bags=40)
    training.cross_validate(config, tmp_path / "run")
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())["scores"]["all"]
    assert scores["auroc"]["low"] > 0.8
    assert scores["accuracy"]["low"] > 0.7


def test_features_need_no_layers_of_their_own_and_the_page_says_why_there_are_no_pictures(tmp_path):
    """Until the file is open its width is unknown, and one feature would be a score already."""
    words = ("trainer.max_epochs=1", "model/encoder=identity", "model/pooling=mean")
    run = tmp_path / "run"
    training.cross_validate(configured(tmp_path, *words), run)
    assert (run / "metrics.json").exists()
    page = write_report(run, run / "report.html").read_text()
    assert "feature vectors, not images" in page


@pytest.mark.parametrize("override", ["model/encoder=resnet18", "data/features=morphology"])
def test_it_has_no_images(override, tmp_path):
    with pytest.raises(InputError, match=r"data\.layout=mil_table") as caught:
        training.cross_validate(configured(tmp_path, override), tmp_path / "run")
    assert len(caught.value.problems) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["audit", "features"])
def test_commands_that_look_at_images_refuse_it(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_mil_bags(tmp_path / "set.csv", draw_mil_bags(20))
    words = ["cohort=mil_table", "data.root=.", "data.table=set.csv"]
    assert command in refused(capsys, command, *words)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "set.csv"]
