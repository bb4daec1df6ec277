import pytest

from lymphoml.core.errors import InputError
from lymphoml.runs.finished_run import find_runs, read_run
from tests.reports.fabricate import ENVIRONMENT, config, make_run


def problems(call, *args):
    with pytest.raises(InputError) as caught:
        call(*args)
    assert all("\n" not in problem for problem in caught.value.problems)
    return caught.value.problems


def test_a_finished_run_reads_back(tmp_path):
    run = read_run(make_run(tmp_path / "run", config(**{"data.repeats": 2}), n=30, epochs=3))
    assert list(run.histories) == list(range(10))
    assert len(run.predictions) == 60
    assert run.repeat.value_counts().to_dict() == {0: 30, 1: 30}
    assert run.config["optim"]["momentum"] == 0.9
    assert run.metrics["n_patients"] == 30
    assert run.environment == ENVIRONMENT
    assert run.seconds == 125.0


def test_an_id_that_looks_like_a_number_or_like_nothing_stays_text(tmp_path):
    path = make_run(tmp_path / "run", n=30, epochs=2)
    for table in (path / "folds.csv", path / "predictions.csv"):
        text = table.read_text().replace("Zebra1,", "007,").replace("Zebra2,", "NA,")
        table.write_text(text)
    run = read_run(path)
    assert {"007", "NA"} < set(run.folds["patient"])
    assert {"007", "NA"} < set(run.predictions["patient"])


def test_no_environment_is_no_hindrance(tmp_path):
    path = make_run(tmp_path / "run", n=30, epochs=2)
    (path / "environment.json").unlink()
    assert read_run(path).environment == {}


def test_an_unfinished_run_says_in_one_line_which_folds_are_missing(tmp_path):
    path = make_run(tmp_path / "run", n=30, epochs=2)
    (path / "fold-3" / "done.json").unlink()
    assert problems(read_run, path) == (
        f"{path} is not finished: fold 3 has no done.json; run the same train.py command again",
    )
    (path / "fold-1" / "done.json").unlink()
    assert "folds 1, 3 have no done.json" in problems(read_run, path)[0]


@pytest.mark.parametrize("name", ["metrics.json", "predictions.csv", "folds.csv"])
def test_a_run_without_one_of_its_files_is_not_finished(tmp_path, name):
    path = make_run(tmp_path / "run", n=30, epochs=2)
    (path / name).unlink()
    assert f"it has no {name}" in problems(read_run, path)[0]


def test_a_folder_that_is_no_run(tmp_path):
    assert "is no run" in problems(read_run, tmp_path)[0]
    assert "is no run" in problems(read_run, tmp_path / "nowhere")[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", '{"n_patients": 3'),
        ("metrics.json", "[]"),
        ("config.yaml", "a: [1"),
        ("predictions.csv", ""),
        ("predictions.csv", "patient,fold\nP1,0\n"),
        ("fold-2/history.csv", "epoch,lr\n0,0.1\n"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content):
    path = make_run(tmp_path / "run", n=30, epochs=2)
    (path / name).write_text(content)
    [problem] = problems(read_run, path)
    assert str(path / name) in problem


def test_a_sweep_is_the_folders_below_in_order(tmp_path):
    for name in ("lr=1e-4", "lr=1e-3"):
        make_run(tmp_path / name, n=30, epochs=2)
    (tmp_path / "multirun.yaml").touch()
    (tmp_path / ".submitit").mkdir()
    assert find_runs(tmp_path) == [tmp_path / "lr=1e-3", tmp_path / "lr=1e-4"]


def test_every_unfinished_run_of_a_sweep_is_named(tmp_path):
    make_run(tmp_path / "a", n=30, epochs=2)
    (make_run(tmp_path / "b", n=30, epochs=2) / "metrics.json").unlink()
    (tmp_path / "c").mkdir()  # a job that failed before it wrote anything
    first, second = problems(find_runs, tmp_path)
    assert f"{tmp_path / 'b'} is not finished: it has no metrics.json" in first
    assert f"{tmp_path / 'c'} is not finished: it has no config.yaml" in second


def test_a_sweep_is_not_a_run_nor_an_empty_folder(tmp_path):
    assert "holds no run" in problems(find_runs, tmp_path)[0]
    assert "no such folder" in problems(find_runs, tmp_path / "nowhere")[0]
    assert "is one run" in problems(find_runs, make_run(tmp_path / "a", n=30, epochs=2))[0]
