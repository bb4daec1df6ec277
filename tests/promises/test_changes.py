"""Resuming under other configuration, data, code, libraries or hardware."""

import dataclasses
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import pytorch_lightning as pl

from lymphoml.cli.main import main
from lymphoml.reports.run_summary import print_run
from lymphoml.runs import prepare, provenance
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import CLINICAL, ROOT, configuration, outcome, predict, refusal

ALLOWED = "resume.allow_changes=true"
QUICK = [*CLINICAL, "trainer.max_epochs=1"]


@pytest.fixture
def started(configured, tmp_path):
    """A run of whose two folds one is done."""
    cross_validate(configured(*QUICK, "fold=0"), tmp_path / "run")
    return tmp_path / "run"


def other_code(patch, tmp_path):
    copy = shutil.copytree(ROOT / "lymphoml", tmp_path / "code" / "lymphoml")
    with (copy / "models" / "pooling" / "statistics.py").open("a") as file:
        file.write("# changed\n")
    (copy / "models" / "new.py").write_text("")
    patch.setattr(provenance, "PACKAGE", copy)


def other_libraries(patch, tmp_path):
    known = provenance.package_versions()
    patch.setattr(provenance, "package_versions", lambda: known | {"torch": "0.0"})


def resolved_as(**changes):
    def other_hardware(patch, tmp_path):
        resolve = prepare.resolve_hardware
        patch.setattr(
            prepare, "resolve_hardware",
            lambda *a, **b: dataclasses.replace(resolve(*a, **b), **changes),
        )  # fmt: skip

    return other_hardware


def nothing(patch, tmp_path):
    pass


def other_data(cohort, tmp_path) -> Path:
    other = shutil.copytree(cohort, tmp_path / "other")
    path = other / "trainset" / "trainset_true.csv"
    table = pd.read_csv(path)
    table.loc[0, "LYMPH_COUNT"] += 1
    table.to_csv(path, index=False)
    return other


CHANGES = {
    "code": (other_code, [], ["statistics.py is changed", "models/new.py is new"]),
    "libraries": (other_libraries, [], ["version of torch was '2."]),
    "hardware": (resolved_as(device_name="abacus"), [], ["and is 'abacus'"]),
    "threads": (resolved_as(num_threads=64), [], ["threads was 1 and is 64"]),
    "configuration": (nothing, ["lr=1e-2"], ["lr was 0.0001 and is 0.01", "optim.lr was"]),
    "data": (nothing, ["data.root=OTHER"], ["the cohort's table or images have changed"]),
}


@pytest.fixture
def changed(configured, cohort, tmp_path, monkeypatch):
    """The configuration of a job after the change of this name."""

    def make(name, *more):
        patch, words, _ = CHANGES[name]
        patch(monkeypatch, tmp_path)
        if name == "data":
            words = [f"data.root={other_data(cohort, tmp_path)}"]
        return configured(*QUICK, *words, *more)

    return make


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.promise(
    "an unfinished run is resumed under other configuration, data, code, library versions, "
    "hardware or number of threads",
    "refused with a line per change, exit code 2, nothing changed; with resume.allow_changes=true "
    "it resumes, and environment.json, metrics.json, the report and the terminal show the changes",
)
def test_changes_are_refused_or_recorded(changed, started, capsys, name):
    before = {path: path.read_bytes() for path in started.rglob("*.*") if path.is_file()}
    config = changed(name)
    code, lines = refusal(capsys, config, started)
    assert code == 2
    expected = CHANGES[name][2]
    for words in expected:
        assert any(words in line for line in lines), lines
    assert ALLOWED in lines[-1]
    assert len(lines) == len(expected) + 1
    after = {path: path.read_bytes() for path in started.rglob("*.*") if path.is_file()}
    assert after == before

    cross_validate(config.replace({"resume.allow_changes": True}), started)
    environment = json.loads((started / "environment.json").read_text())
    (session,) = environment["changes"]
    assert len(session["changes"]) == len(expected)
    assert json.loads((started / "metrics.json").read_text())["changes"] == [session]
    if name == "libraries":
        check_shown(config, started, environment, capsys)


def check_shown(config, run, environment, capsys):
    shown = provenance.summarize(environment)
    capsys.readouterr()
    print_run(run)
    printed = capsys.readouterr().out
    main(["report", f"run={run}", "thumbnails=false"])
    page = (run / "report.html").read_text()
    for line in shown:
        assert line in printed
        assert line.partition(": ")[2].replace("'", "&#39;") in page
    predict(config, run)
    assert shown[0] in capsys.readouterr().out


@pytest.mark.parametrize("name", ["code", "libraries", "hardware", "threads"])
@pytest.mark.promise(
    "a finished run is read again, or predicts, under other code, libraries or hardware",
    "nothing is refused or trained: its bytes stay as they are",
)
def test_a_finished_run_is_only_read(
    changed, configured, tmp_path, monkeypatch, cohort, name, finished
):
    run = shutil.copytree(finished, tmp_path / "run")
    before = outcome(run), (run / "environment.json").read_bytes()
    config = changed(name)
    monkeypatch.setattr(pl.Trainer, "fit", lambda *_, **__: pytest.fail("trained again"))
    cross_validate(config, run)
    predict(config, run)
    assert (outcome(run), (run / "environment.json").read_bytes()) == before


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    cross_validate(configuration(cohort, folder / "cache", *QUICK), folder / "run")
    return folder / "run"


@pytest.mark.promise(
    "a run that was resumed after a change is stopped and resumed again",
    "under what it last ran with without a message; going back is a change of its own",
)
def test_a_change_is_recorded_once(configured, tmp_path, capsys):
    run, words = tmp_path / "run", [*QUICK, "data.folds=3"]
    cross_validate(configured(*words, "fold=0"), run)
    with pytest.MonkeyPatch.context() as patch:
        other_libraries(patch, tmp_path)
        cross_validate(configured(*words, "fold=1", ALLOWED), run)
        known = (run / "environment.json").read_bytes()
        cross_validate(configured(*words, "fold=2"), run)
        assert (run / "environment.json").read_bytes() == known
    (run / "fold-2" / "done.json").unlink()
    code, lines = refusal(capsys, configured(*words, "fold=2"), run)
    assert code == 2
    assert "version of torch was '0.0' and is '2." in lines[0]


@pytest.mark.promise(
    "a run started with one number of threads is resumed where more cores are free",
    "it keeps its number, and its bytes",
)
def test_an_existing_run_keeps_its_threads(configured, started, monkeypatch):
    monkeypatch.setattr("lymphoml.training.hardware.threads_per_job", lambda jobs: 2)
    cross_validate(configured(*QUICK, "fold=1", "trainer.num_threads=null"), started)
    assert "changes" not in json.loads((started / "environment.json").read_text())


@pytest.mark.promise(
    "a cohort that changed is predicted by the run that was resumed with it",
    "each patient still only by the models that were not trained on them",
)
def test_no_patient_is_predicted_by_a_model_trained_on_them_after_a_change(
    changed, started, tmp_path
):
    cross_validate(changed("data", ALLOWED), started)
    main(["predict", f"run={started}", "patients=all", f"data.root={tmp_path / 'other'}"])
    stored = pd.read_csv(started / "predictions.csv").set_index("patient")
    table = pd.read_csv(started / "test" / "predictions.csv").set_index("patient")
    assert table.loc[stored.index, "standard_deviation"].isna().all()  # one model predicted
    fold = stored[stored["fold"] == 1].index
    pd.testing.assert_series_equal(
        table.loc[fold, "probability"], stored.loc[fold, "probability"], check_exact=True
    )


@pytest.mark.parametrize(("file", "decides"), [
    ("models/pooling/statistics.py", True), ("data/transforms.py", True),
    ("features/morphology.py", True), ("training/hardware.py", True),
    ("core/seeding.py", True), ("runs/cross_validation.py", True),
    ("runs/submission.py", False), ("training/loggers/wandb.py", False),
    ("runs/test_set_log.py", False), ("reports/ensemble.py", False), ("cli/main.py", False),
])  # fmt: skip
@pytest.mark.promise(
    "a comment in code that decides on no bits (the Kaggle client, a logger), or in a pooling",
    "the first refuses no resume, the second does",
)
def test_only_code_that_decides_on_bits_counts(tmp_path, file, decides):
    ignored = shutil.ignore_patterns("__pycache__")
    copy = shutil.copytree(ROOT / "lymphoml", tmp_path / "lymphoml", ignore=ignored)
    before = provenance.code_digests(copy)
    with (copy / file).open("a") as text:
        text.write("# a comment\n")
    after = provenance.code_digests(copy)
    assert (before != after) == decides
    if decides:
        assert {name for name in before if before[name] != after[name]} == {f"lymphoml/{file}"}
