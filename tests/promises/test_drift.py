"""Drift: other configuration, data, code, libraries or arithmetic."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from lymphoml.cli.main import main
from lymphoml.reports.run_summary import print_run
from lymphoml.runs import provenance
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.training import hardware
from tests.promises.jobs import CLINICAL, ROOT, outcome, predict, refusal

ALLOWED = "resume.allow_changes=true"


@pytest.fixture
def begun(configured, tmp_path):
    """A run of whose two folds one is done."""
    cross_validate(configured(*CLINICAL, "fold=0"), tmp_path / "run")
    return tmp_path / "run"


def other_code(patch, tmp_path):
    copy = shutil.copytree(ROOT / "lymphoml", tmp_path / "code" / "lymphoml")
    shutil.copy(ROOT / "train.py", copy.parent)
    (copy / "module.py").write_text((copy / "module.py").read_text() + "\n# changed\n")
    (copy / "nn" / "new.py").write_text("")
    (copy / "report" / "page.py").write_text("")
    patch.setattr(provenance, "PACKAGE", copy)


def other_libraries(patch, tmp_path):
    known = provenance._version
    patch.setattr(provenance, "_version", lambda name: "0.0" if name == "torch" else known(name))


def other_machine(patch, tmp_path):
    patch.setattr(hardware, "device_name", lambda accelerator: "abacus")


def other_threads(patch, tmp_path):
    patch.setattr(torch, "get_num_threads", lambda: 64)


def nothing(patch, tmp_path):
    pass


def other_data(cohort, tmp_path) -> Path:
    other = shutil.copytree(cohort, tmp_path / "other")
    path = other / "trainset" / "trainset_true.csv"
    table = pd.read_csv(path)
    table.loc[0, "LYMPH_COUNT"] += 1
    table.to_csv(path, index=False)
    return other


DRIFTS = {
    "code": (other_code, [], ["lymphoml/training/lightning_module.py has changed since it was begun",
                              "lymphoml/models/new.py is new since it was begun"]),
    "libraries": (other_libraries, [], ["version of torch is '2.", "' there and '0.0' now"]),
    "machine": (other_machine, [], ["hardware is '", "' there and 'abacus' now"]),
    "threads": (other_threads, [], ["threads is 1 there and 64 now"]),
    "configuration": (nothing, ["lr=1e-2"], ["lr is 0.0001 there and 0.01 now"]),
    "data": (nothing, ["data.root=OTHER"], ["the cohort's table or images have changed"]),
}  # fmt: skip
ARITHMETIC = ("code", "libraries", "machine", "threads")


@pytest.fixture
def drifted(configured, cohort, tmp_path, monkeypatch):
    """The configuration of a job after the drift of this name."""

    def make(name, *more):
        patch, words, _ = DRIFTS[name]
        patch(monkeypatch, tmp_path)
        if name == "data":
            words = [f"data.root={other_data(cohort, tmp_path)}"]
        return configured(*CLINICAL, *words, *more)

    return make


@pytest.mark.parametrize("name", DRIFTS)
@pytest.mark.promise(
    "an unfinished run is gone on with under other configuration, data, code, library versions, "
    "hardware or number of threads",
    "refused with a line a difference, exit code 2, nothing changed; with resume.allow_changes=true "
    "it goes on, and provenance.json, metrics.json, the page and the terminal tell it",
)
def test_drift_is_refused_or_recorded(drifted, begun, capsys, name):
    before = {path: path.read_bytes() for path in begun.rglob("*.*") if path.is_file()}
    config = drifted(name)
    code, lines = refusal(capsys, config, begun)
    assert code == 2
    for words in DRIFTS[name][2]:
        assert any(words in line for line in lines), lines
    assert ALLOWED in lines[-1]
    assert len(lines) == (3 if name == "code" else 2 + (name == "configuration"))
    after = {path: path.read_bytes() for path in begun.rglob("*.*") if path.is_file()}
    assert after == before

    config["resume"]["allow_changes"] = True
    cross_validate(config, begun)
    (session,) = json.loads((begun / "provenance.json").read_text())["drift"]
    assert len(session["changes"]) == len(lines) - 1
    assert json.loads((begun / "metrics.json").read_text())["drift"] == [session]
    told = provenance.summary([session])
    capsys.readouterr()
    print_run(begun)
    shown = capsys.readouterr().out
    main(["report", f"run={begun}", "thumbnails=false"])
    page = (begun / "report.html").read_text()
    assert "This run has drifted" in page
    for line in told:
        assert f"drifted, {line}" in shown
        assert line.partition(": ")[2].replace("'", "&#39;") in page
    if name != "data":  # the cohort's own tests say who may predict whom
        capsys.readouterr()
        predict(config, begun)
        assert "the run has drifted, " in capsys.readouterr().out


@pytest.mark.parametrize("name", ARITHMETIC)
@pytest.mark.promise(
    "a finished run is read again, or predicts, under other code, libraries or machine",
    "nothing is refused or trained: its bytes stay as they are",
)
def test_a_finished_run_is_only_read(drifted, configured, tmp_path, monkeypatch, capsys, name):
    run = tmp_path / "run"
    cross_validate(configured(*CLINICAL), run)
    before = outcome(run), (run / "provenance.json").read_bytes()
    config = drifted(name)
    monkeypatch.setattr(pl.Trainer, "fit", lambda *_, **__: pytest.fail("trained again"))
    cross_validate(config, run)
    predict(config, run)
    main(["report", f"run={run}", "thumbnails=false"])
    assert (outcome(run), (run / "provenance.json").read_bytes()) == before
    assert "has drifted" not in (run / "report.html").read_text()


@pytest.mark.promise(
    "a run that has drifted once is stopped and gone on with again",
    "under what it last ran with without a word; going back is a drift of its own",
)
def test_drift_is_told_once(configured, tmp_path, capsys):
    run, words = tmp_path / "run", [*CLINICAL, "data.folds=3"]
    cross_validate(configured(*words, "fold=0"), run)
    with pytest.MonkeyPatch.context() as patch:
        other_libraries(patch, tmp_path)
        cross_validate(configured(*words, "fold=1", ALLOWED), run)
        known = (run / "provenance.json").read_bytes()
        cross_validate(configured(*words, "fold=2"), run)
        assert (run / "provenance.json").read_bytes() == known
    (run / "fold-2" / "done.json").unlink()
    code, lines = refusal(capsys, configured(*words, "fold=2"), run)
    assert code == 2
    assert "version of torch is '0.0' there and '2." in lines[0]


@pytest.mark.promise(
    "a run begun with one number of threads is gone on with where more cores are free",
    "it keeps its number, and its bytes",
)
def test_a_begun_run_keeps_its_threads(configured, tmp_path, monkeypatch):
    config = configured(*CLINICAL, "fold=0")
    cross_validate(config, tmp_path / "run")
    monkeypatch.setattr(hardware, "threads_per_job", lambda jobs: 2)
    config = configured(*CLINICAL, "fold=1", "trainer.num_threads=null")
    cross_validate(config, tmp_path / "run")
    assert config["trainer"]["num_threads"] == 1


@pytest.mark.promise(
    "a cohort that drifted is predicted by the run that went on with it",
    "each patient still only by the models that did not train on them",
)
def test_nobody_is_predicted_by_a_model_that_trained_on_them_after_drift(drifted, begun, tmp_path):
    config = drifted("data", ALLOWED)
    cross_validate(config, begun)
    main(["predict", f"run={begun}", "patients=all", f"data.root={tmp_path / 'other'}"])
    stored = pd.read_csv(begun / "predictions.csv").set_index("patient")
    table = pd.read_csv(begun / "test" / "predictions.csv").set_index("patient")
    assert table.loc[stored.index, "standard_deviation"].isna().all()  # one model spoke
    fold = stored[stored["fold"] == 1].index
    pd.testing.assert_series_equal(
        table.loc[fold, "probability"], stored.loc[fold, "probability"], check_exact=True
    )


def test_code_that_only_looks_on_is_no_drift(tmp_path):
    known = provenance.code(ROOT / "lymphoml")
    assert {"lymphoml/training/lightning_module.py", "lymphoml/models/mil.py", "train.py"} <= set(
        known
    )
    assert not [file for file in known if file.startswith("lymphoml/reports")]


def test_a_run_of_before_tells_no_code_and_goes_on(configured, begun):
    known = json.loads((begun / "provenance.json").read_text())
    for key in ("code", "threads"):
        del known[key]
    (begun / "provenance.json").write_text(json.dumps(known))
    cross_validate(configured(*CLINICAL), begun)
    assert "drift" not in json.loads((begun / "metrics.json").read_text())
