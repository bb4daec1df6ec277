"""`list`: what is finished, what is trained now and for how long, what is damaged."""

import json
import os
import time

import pytest

from lymphoml.core.errors import InputError
from lymphoml.reports.run_summary import list_runs, print_runs
from lymphoml.runs.fold_lock import fold_lock
from tests.reports.fabricate import make_small_run


def unfinish(run, fold=1):
    """Take back what ends a fold and its run."""
    for name in ("SHA256SUMS", "metrics.json", f"fold-{fold}/done.json"):
        (run / name).unlink()


def statuses(folder):
    return {run.path.name: (run.folds, run.time_left) for run in list_runs(folder)}


def test_a_finished_run_has_its_score_with_interval(tmp_path, capsys):
    run = make_small_run(tmp_path / "runs" / "cv" / "lr=0.1,optim=[sgd]")
    (status,) = list_runs(tmp_path / "runs")
    value = json.loads((run / "metrics.json").read_text())["scores"]["all"]["balanced_accuracy"]
    assert (status.folds, status.time_left) == ("2 of 2", "finished")
    assert status.score == f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    assert list_runs(run) == list_runs(run.parent) == [status]
    print_runs(tmp_path / "runs")
    shown = capsys.readouterr().out
    assert "cv/lr=0.1,optim=[sgd]" in shown
    assert status.score in shown


def test_the_time_left_is_that_of_the_epochs_that_are_missing(tmp_path):
    run = make_small_run(tmp_path / "cv" / "a", **{"trainer.max_epochs": 603})
    unfinish(run)
    assert statuses(tmp_path) == {"a": ("1 of 2", "stopped")}
    (run / "fold-0" / "done.json").write_text('{"fold": 0, "epochs": 3, "seconds": 21}')
    with fold_lock(run, 1):
        assert statuses(tmp_path) == {"a": ("1 of 2", "about 1 h 10 min")}  # 600 epochs of 7 s
        (run / "fold-0" / "done.json").unlink()
        assert statuses(tmp_path) == {"a": ("0 of 2", "")}
        now = time.time()
        for name, later in (("previous", 60), ("last", 72)):
            (path := run / "fold-1" / f"{name}.ckpt").write_bytes(b"")
            os.utime(path, (now + later, now + later))
        assert statuses(tmp_path) == {"a": ("0 of 2", "about 4 h 00 min")}  # 1200 of 12 s
        (run / "fold-1" / "previous.ckpt").unlink()
        assert statuses(tmp_path)["a"][1].startswith("about 24 h")  # since the start: 72 s
    assert statuses(tmp_path) == {"a": ("0 of 2", "stopped")}


def test_foreign_and_damaged_folders_break_nothing(tmp_path):
    runs = tmp_path / "runs"
    run = make_small_run(runs / "cv" / "good")
    (runs / "file.txt").write_text("")
    (runs / "cv" / "other").mkdir()
    (runs / "cv" / "other" / "config.yaml").write_text("[of, another, program]")
    for name in ("config", "folds", "metrics", "links", "new"):
        make_small_run(runs / "cv" / name)
    unfinish(runs / "cv" / "config")
    (runs / "cv" / "config" / "config.yaml").write_text("trainer: 3")
    (runs / "cv" / "folds" / "folds.csv").write_text("patient\nP1\n")
    (runs / "cv" / "metrics" / "metrics.json").write_text("{}")
    (runs / "cv" / "links" / "more").symlink_to(tmp_path)
    unfinish(runs / "cv" / "new")
    (runs / "cv" / "new" / "folds.csv").unlink()
    with fold_lock(runs / "cv" / "config", 1):
        found = statuses(runs)
    assert found.pop(run.name) == ("2 of 2", "finished")
    assert found.pop("new") == ("", "stopped")
    assert found.keys() == {"config", "folds", "metrics", "links"}
    assert all(text.startswith("damaged: ") for _, text in found.values())
    with pytest.raises(InputError, match="no such folder"):
        list_runs(runs / "none")
