"""Resuming under other configuration, data, code, libraries or hardware."""

import dataclasses
import json
import shutil

import pandas as pd
import pytest
import pytorch_lightning as pl

from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.evaluation.cross_conformal import rule_out_scores
from lymphoml.evaluation.metrics import SCORES, score_fold
from lymphoml.evaluation.summary import over_repeats
from lymphoml.reports.run_summary import print_run
from lymphoml.runs import predict as prediction
from lymphoml.runs import prepare, provenance
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.runs.run_folder import read_out_of_fold, read_predictions_csv
from tests.promises import jobs
from tests.promises.jobs import CLINICAL, configuration, few, files, outcome, predict, train_ends

ALLOWED = "resume.allow_changes=true"
QUICK = [*CLINICAL, "trainer.max_epochs=1"]


@pytest.fixture
def started(configured, tmp_path):
    """A run of whose two folds one is done."""
    cross_validate(configured(*QUICK, "fold=0"), tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory):
    """A run of three repeats, and its configuration."""
    folder = tmp_path_factory.mktemp("finished")
    config = configuration(cohort, folder / "cache", *QUICK, "data.repeats=3")
    cross_validate(config, folder / "run")
    return config, folder / "run"


def other_code(patch, tmp_path):
    copy = shutil.copytree(provenance.PACKAGE, tmp_path / "code" / "lymphoml")
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
        changed = lambda *a, **b: dataclasses.replace(resolve(*a, **b), **changes)  # noqa: E731
        patch.setattr(prepare, "resolve_hardware", changed)

    return other_hardware


CHANGES = {
    "code": (other_code, [], ["statistics.py is changed", "models/new.py is new"]),
    "libraries": (other_libraries, [], ["version of torch was '2."]),
    "hardware": (resolved_as(device_name="abacus"), [], ["and is 'abacus'"]),
    "threads": (resolved_as(num_threads=64), [], ["threads was 1 and is 64"]),
    "configuration": (None, ["lr=1e-2"], ["lr was 0.0001 and is 0.01", "optim.lr was"]),
    "data": (None, ["data.root=OTHER"], ["the cohort's table or images have changed"]),
}


@pytest.fixture
def changed(configured, cohort, tmp_path, monkeypatch):
    """The configuration of a job after the change of this name."""

    def make(name, *more):
        other = jobs.edited(cohort, tmp_path / "other", LYMPH_COUNT=lambda t: t["LYMPH_COUNT"] + 1)
        patch, words, _ = CHANGES[name]
        if patch:
            patch(monkeypatch, tmp_path)
        return configured(*QUICK, *(word.replace("OTHER", str(other)) for word in words), *more)

    return make


@pytest.mark.parametrize("name", few(CHANGES, "libraries", "data"))
def test_changes_are_refused_or_recorded(changed, started, capsys, name):
    """an unfinished run is resumed under other configuration, data, code, library versions,
    hardware or number of threads → refused with a line per change, exit code 2, nothing changed;
    with resume.allow_changes=true it resumes, and environment.json, metrics.json, the report and
    the terminal show the changes"""
    before, config, expected = files(started), changed(name), CHANGES[name][2]
    lines = train_ends(capsys, config, started)
    for words in expected:
        assert any(words in line for line in lines), lines
    assert ALLOWED in lines[-1]
    assert len(lines) == len(expected) + 1
    assert files(started) == before

    cross_validate(config.replace({"resume.allow_changes": True}), started)
    environment = json.loads((started / "environment.json").read_text())
    (session,) = environment["changes"]
    assert len(session["changes"]) == len(expected)
    assert json.loads((started / "metrics.json").read_text())["changes"] == [session]
    if name != "libraries":
        return
    shown = provenance.summarize(environment)
    capsys.readouterr()
    print_run(started)
    predict(config, started)
    printed = capsys.readouterr().out
    main(["report", f"run={started}", "thumbnails=false"])
    page = (started / "report.html").read_text()
    for line in shown:
        assert printed.count(line) == 2
        assert line.partition(": ")[2].replace("'", "&#39;") in page


@pytest.mark.parametrize("name", few([*CHANGES][:4], "code"))
def test_a_finished_run_is_only_read(changed, tmp_path, monkeypatch, name, finished):
    """a finished run is read again, or predicts, under other code, libraries or hardware → nothing
    is refused or trained: its bytes stay as they are"""
    run = shutil.copytree(finished[1], tmp_path / "run")
    before = outcome(run), (run / "environment.json").read_bytes()
    config = changed(name, "data.repeats=3")
    monkeypatch.setattr(pl.Trainer, "fit", lambda *_, **__: pytest.fail("trained again"))
    cross_validate(config, run)
    predict(config, run)
    shutil.rmtree(run / "test")
    assert (outcome(run), (run / "environment.json").read_bytes()) == before


def test_a_change_is_recorded_once(configured, tmp_path, capsys):
    """a run that was resumed after a change is stopped and resumed again → under what it last ran
    with without a message; going back is a change of its own"""
    run, words = tmp_path / "run", [*QUICK, "data.folds=3"]
    cross_validate(configured(*words, "fold=0"), run)
    with pytest.MonkeyPatch.context() as patch:
        other_libraries(patch, tmp_path)
        cross_validate(configured(*words, "fold=1", ALLOWED), run)
        known = (run / "environment.json").read_bytes()
        cross_validate(configured(*words, "fold=2"), run)
        assert (run / "environment.json").read_bytes() == known
    (run / "fold-2" / "done.json").unlink()
    lines = train_ends(capsys, configured(*words, "fold=2"), run)
    assert "version of torch was '0.0' and is '2." in lines[0]


def test_an_existing_run_keeps_its_threads(configured, started, monkeypatch):
    """a run started with one number of threads is resumed where more cores are free → it keeps its
    number, and its bytes"""
    monkeypatch.setattr("lymphoml.training.hardware.threads_per_job", lambda jobs: 2)
    cross_validate(configured(*QUICK, "fold=1", "trainer.num_threads=null"), started)
    assert "changes" not in json.loads((started / "environment.json").read_text())


def test_no_patient_is_predicted_by_a_model_trained_on_them_after_a_change(
    changed, started, tmp_path
):
    """a cohort that changed is predicted by the run that was resumed with it → each patient still
    only by the models that were not trained on them"""
    cross_validate(changed("data", ALLOWED), started)
    main(["predict", f"run={started}", "patients=all", f"data.root={tmp_path / 'other'}"])
    stored = pd.read_csv(started / "predictions.csv").set_index("patient")
    table = pd.read_csv(started / "test" / "predictions.csv").set_index("patient")
    assert table.loc[stored.index, "standard_deviation"].isna().all()  # one model predicted
    fold = stored[stored["fold"] == 1].index
    assert table.loc[fold, "probability"].to_list() == stored.loc[fold, "probability"].to_list()


def test_only_code_that_decides_on_bits_counts(tmp_path):
    """a comment in code that decides on no bits (the Kaggle client, a logger), or in a pooling →
    the first refuses no resume, the second does"""
    ignored = shutil.ignore_patterns("__pycache__")
    copy = shutil.copytree(provenance.PACKAGE, tmp_path / "lymphoml", ignore=ignored)
    decide = ["models/pooling/statistics.py", "data/transforms.py", "features/morphology.py",
              "training/hardware.py", "core/seeding.py", "runs/cross_validation.py"]  # fmt: skip
    do_not = ["runs/submission.py", "training/loggers/tracker.py", "runs/test_set_log.py",
              "reports/ensemble.py", "cli/main.py"]  # fmt: skip
    before = provenance.code_digests(copy)
    for file in (*decide, *do_not):
        with (copy / file).open("a") as text:
            text.write("# a comment\n")
    after = provenance.code_digests(copy)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"lymphoml/{file}" for file in decide}


def test_a_damaged_file_is_one_line(finished, tmp_path):
    """metrics.json of a finished run cut short, emptied or rewritten, and the same command again →
    one line that names the file and how to fix it; without it the same scores are made again"""
    config, run = finished[0], shutil.copytree(finished[1], tmp_path / "run")
    path = run / "metrics.json"
    good = path.read_text()
    damaged = [good[: len(good) // 2], "", "[]", "[" * 100_000]
    for score in ('{"value": "high"}', '{"value": NaN}', "null"):
        damaged.append(f'{{"balanced_accuracy": {score}}}')
    for damage in damaged:
        path.write_text(damage)
        with pytest.raises(InputError, match=r"metrics\.json .*remove it") as caught:
            cross_validate(config, run)
        assert len(caught.value.problems) == 1
    path.unlink()
    cross_validate(config, run)
    assert path.read_text() == good


def test_no_averaged_model_was_trained_on_the_patient(finished, tmp_path):
    """the average over repeats would contain predictions by models trained on the patient → it is
    the mean of the models that held the patient out, computed again from checkpoints"""
    config, run = finished
    folds = read_predictions_csv(run / "folds.csv", ["patient", "fold"])
    for fold, held_out in folds.groupby("fold")["patient"]:
        found = read_predictions_csv(run / f"fold-{fold}" / "predictions.csv")["patient"]
        assert sorted(found) == sorted(held_out)
    average = over_repeats(read_out_of_fold(run)).set_index("patient")
    # `predict` uses for each labelled patient the models that were not trained on that patient.
    again = prediction.predict(run, {run: config}, tmp_path, "all", ("ID", "LABEL"))
    again = again.set_index("patient").loc[average.index, "probability"]
    pd.testing.assert_series_equal(average["probability"], again, rtol=1e-4)
    scores = json.loads((run / "metrics.json").read_text())["averaged"]["scores"]["all"]
    scored = rule_out_scores(average.assign(probability=again))
    expected = score_fold(average["label"], again, scored)
    for name in SCORES:
        assert scores[name]["value"] == pytest.approx(expected[name], abs=1e-4)
