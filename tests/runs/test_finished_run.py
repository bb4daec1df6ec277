"""Finished run folders, read back."""

import pytest

from lymphoml.core.errors import InputError
from lymphoml.runs.finished_run import find_runs, read_run
from tests.reports.fabricate import ENVIRONMENT, config, list_files, make_run


@pytest.fixture
def path(tmp_path):
    return make_run(tmp_path / "run", config(**{"data.repeats": 2}), n=30, epochs=2)


def problems(call, *args):
    with pytest.raises(InputError) as caught:
        call(*args)
    assert all("\n" not in problem for problem in caught.value.problems)
    return caught.value.problems


def test_a_finished_run_is_read(path):
    for table in (path / "folds.csv", path / "predictions.csv"):
        table.write_text(table.read_text().replace("Zebra1,", "007,").replace("Zebra2,", "NA,"))
    list_files(path)
    run = read_run(path)
    assert list(run.histories) == list(range(10))
    assert run.repeat.value_counts().to_dict() == {0: 30, 1: 30}
    assert run.config["optim"]["momentum"] == 0.9
    assert run.metrics["n_patients"] == 30
    assert run.environment == ENVIRONMENT
    assert run.seconds == 125.0
    assert {"007", "NA"} < set(run.predictions["patient"])


def test_an_unfinished_run_names_the_missing_folds(path):
    for fold in (3, 1):
        (path / f"fold-{fold}" / "done.json").unlink()
    (problem,) = problems(read_run, path)
    assert str(path) in problem
    assert "1, 3" in problem


@pytest.mark.parametrize("name", ["metrics.json", "predictions.csv", "folds.csv"])
def test_a_run_without_one_of_its_files_is_not_finished(path, name):
    (path / name).unlink()
    assert name in problems(read_run, path)[0]


@pytest.mark.parametrize(("name", "content"), [
    ("metrics.json", "[]"), ("config.yaml", "a: [1"),
    ("predictions.csv", "patient,fold\nP1,0\n"), ("fold-2/history.csv", "epoch,lr\n0,0.1\n"),
])  # fmt: skip
def test_a_corrupt_file_is_named(path, name, content):
    (path / name).write_text(content)
    (problem,) = problems(read_run, path)
    assert str(path / name) in problem


def test_a_sweep_is_the_run_folders_below_by_name(tmp_path):
    for name in ("lr=1e-4", "lr=1e-3"):
        make_run(tmp_path / name, n=30, epochs=2)
    (tmp_path / "multirun.yaml").touch()
    (tmp_path / ".submitit").mkdir()
    (tmp_path / "slurm").mkdir()  # the jobs' logs
    assert find_runs(tmp_path) == [tmp_path / "lr=1e-3", tmp_path / "lr=1e-4"]
    (tmp_path / "lr=1e-4" / "metrics.json").unlink()
    (tmp_path / "c").mkdir()  # a job that failed before it wrote anything
    first, second = problems(find_runs, tmp_path)
    assert str(tmp_path / "c") in first
    assert str(tmp_path / "lr=1e-4") in second


def test_a_folder_without_a_run_is_an_error(tmp_path, path):
    for call, folder in ((read_run, tmp_path), (find_runs, path), (find_runs, tmp_path / "none")):
        assert str(folder) in problems(call, folder)[0]
