"""`python -m lymphoml compare` as it is typed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lymphoml.cli.main import main
from tests.promises.jobs import refused
from tests.reports.fabricate import config, make_predictions, make_run

ROOT = Path(__file__).parents[2]


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


def test_a_sweep_in_a_process_of_its_own(runs):
    done = subprocess.run(
        [sys.executable, "-m", "lymphoml", "compare", "runs=runs/sweep", "resamples=200"],
        cwd=runs.parent, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "reference: lr=0.0001 (the paper's optimiser, learning rate and decay)" in done.stdout
    assert "difference [95 %]" in done.stdout
    written = json.loads((runs / "sweep" / "comparison.json").read_text())
    assert written["strata"]["all"]["n_patients"] == 60
    assert (runs / "sweep" / "comparison.csv").exists()
    assert str(runs.parent) not in json.dumps(written)


def test_a_list_is_compared_with_its_first_into_runs(runs, capsys):
    main(["compare", 'runs=["runs/sweep/lr=0.001,x=1",runs/sweep/lr=0.0001]', "resamples=200"])
    assert "reference: lr=0.001,x=1 (the first given)" in capsys.readouterr().out
    assert json.loads((runs / "comparison.json").read_text())["reference"] == "lr=0.001,x=1"


def test_reference_out_and_seed_are_obeyed(runs, capsys):
    words = ["compare", "runs=runs/sweep", "reference=lr=0.001,x=1", "resamples=200"]
    main([*words, "out=one"])
    main([*words, "out=again"])
    main([*words, "out=two", "seed=1"])
    assert "(as given)" in capsys.readouterr().out
    files = [Path(name, "comparison.json").read_bytes() for name in ("one", "again", "two")]
    assert json.loads(files[0])["reference"] == "lr=0.001,x=1"
    assert files[0] == files[1] != files[2]
    assert not (runs / "sweep" / "comparison.json").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["runs=runs/nowhere"], "runs/nowhere: no such folder"),
        (["runs=runs/other"], "runs/other is one run"),
        (["runs=[runs/other]"], "a comparison takes two different runs or more"),
        (["runs=[runs/other,runs/nowhere]"], "runs/nowhere is not a folder"),
        (["runs=[runs/sweep/lr=0.001,x=1,runs/other]"], "quote one whose name has a comma"),
        (["runs=[runs/other,runs]"], "runs is not a run: it has no config.yaml"),
        (["runs=runs/sweep", "reference=other"], "reference=other: must be one of the runs"),
        (["runs=runs/sweep", "resamples=1"], "resamples=1: must be >= 100"),
    ],
)
def test_wrong_words_are_one_line_and_exit_code_2(runs, capsys, words, says):
    assert says in refuse(capsys, *words)


def test_two_runs_of_one_name_are_told_apart_by_their_folders(runs, capsys):
    names = ["runs/sweep/lr=0.0001", "runs/again/lr=0.0001"]
    shutil.copytree(names[0], names[1])
    words = [f"runs=[{','.join(names)}]", "resamples=100", "out=out"]
    line = refuse(capsys, *words, "reference=lr=0.0001")
    assert f"{names[0]} and {names[1]} have this name; give the folder" in line
    main(["compare", *words, f"reference={names[1]}"])
    assert "reference: again/lr=0.0001 (as given)" in capsys.readouterr().out
