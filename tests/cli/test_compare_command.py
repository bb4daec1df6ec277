"""`python -m lymphoml compare` as it is typed."""

import json
import shutil
from pathlib import Path

import pytest

from lymphoml.cli.main import main
from tests.promises.jobs import refused
from tests.reports.fabricate import config, make_predictions, make_run


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A sweep of two and, beside it, a run with other folds; the working folder is above."""
    for name, skill, rate in (("lr=0.0001", 2.0, 1e-4), ("lr=0.001,x=1", 4.0, 1e-3)):
        settings = config(lr=rate, **{"optim.lr": rate})
        predictions = make_predictions(60, 5, 1, skill, seed=0)
        make_run(tmp_path / "runs" / "sweep" / name, settings, predictions=predictions, epochs=1)
    make_run(tmp_path / "runs" / "other", n=60, seed=1, epochs=1)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def refuse(capsys, *words):
    """The line of a refusal, and that nothing was written."""
    before = sorted(Path().rglob("*"))
    line = refused(capsys, "compare", *words)
    assert sorted(Path().rglob("*")) == before
    return line


def test_a_sweep_is_compared_with_the_papers_run_into_its_folder(runs, capsys):
    main(["compare", "runs=runs/sweep", "resamples=200"])
    shown = capsys.readouterr().out
    assert "reference: lr=0.0001 (the paper's optimiser, learning rate and decay)" in shown
    written = (runs / "sweep" / "comparison.json").read_text()
    assert json.loads(written)["strata"]["all"]["n_patients"] == 60
    assert (runs / "sweep" / "comparison.csv").exists()
    assert str(runs.parent) not in written


def test_a_list_is_compared_with_its_first_into_runs_or_out_by_a_seed(runs, capsys):
    words = ['runs=["runs/sweep/lr=0.001,x=1",runs/sweep/lr=0.0001]', "resamples=200"]
    for more in ([], ["out=again"], ["out=two", "seed=1"]):
        main(["compare", *words, *more])
    assert "reference: lr=0.001,x=1 (the first given)" in capsys.readouterr().out
    files = [Path(name, "comparison.json").read_bytes() for name in ("runs", "again", "two")]
    assert json.loads(files[0])["reference"] == "lr=0.001,x=1"
    assert files[0] == files[1] != files[2]


def test_wrong_words_are_one_line_and_exit_code_2(runs, capsys):
    for words, message in {
        "runs=runs/nowhere": "runs/nowhere: no such folder",
        "runs=runs/other": "runs/other is one run",
        "runs=[runs/other]": "a comparison takes two different runs or more",
        "runs=[runs/other,runs/nowhere]": "runs/nowhere is not a folder",
        "runs=[runs/sweep/lr=0.001,x=1,runs/other]": "quote one whose name has a comma",
        "runs=[runs/other,runs]": "runs is not a run: it has no config.yaml",
        "runs=runs/sweep reference=other": "reference=other: must be one of the runs",
        "runs=runs/sweep resamples=1": "resamples=1: must be >= 100",
    }.items():
        assert message in refuse(capsys, *words.split())


def test_two_runs_of_one_name_are_told_apart_by_their_folders(runs, capsys):
    names = ["runs/sweep/lr=0.0001", "runs/again/lr=0.0001"]
    shutil.copytree(names[0], names[1])
    words = [f"runs=[{','.join(names)}]", "resamples=100", "out=out"]
    line = refuse(capsys, *words, "reference=lr=0.0001")
    assert f"{names[0]} and {names[1]} have this name; give the folder" in line
    main(["compare", *words, f"reference={names[1]}"])
    assert "reference: again/lr=0.0001 (as given)" in capsys.readouterr().out
