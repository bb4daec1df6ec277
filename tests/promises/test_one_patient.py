"""One patient: a folder of images and values on the command line, answered as a table of one row"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from lymphoml.cli.config import run_config
from lymphoml.cli.main import main
from lymphoml.data.cohort import load_cohort
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import CLINICAL, ENCODER, configuration, files, refused


@pytest.fixture(scope="session")
def patient(two_runs, cohort):
    """The first test patient: words of the command, and the row of predictions.csv."""
    row = pd.read_csv(two_runs / "run" / "test" / "predictions.csv").iloc[0]
    config = run_config(two_runs / "run", {"root": str(cohort)}, {})
    values = load_cohort(config.data).table.loc[row["patient"], config.data.clinical]
    words = [f"{name}={value}" for name, value in values.items()]
    return [f"images={cohort}/testset/{row['patient']}", *words], row


def answered(folder, capsys, *words):
    capsys.readouterr()
    main(["predict", *words, f"out={folder / 'result.json'}"])
    return json.loads((folder / "result.json").read_text()), capsys.readouterr().out


def test_one_patient_is_answered_as_in_a_table(two_runs, patient, cohort, tmp_path, capsys):
    """`images=DIR age=67 lymphocyte_count=9.1` → the numbers of a table of patients: probability,
    range over folds, rule-out or test; the cells by effect; nothing left in cache or run"""
    words, row = patient
    before = files(two_runs)
    found, printed = answered(tmp_path, capsys, f"run={two_runs}/run", *words)
    for name in ("probability", "lowest", "highest"):
        assert found[name] == pytest.approx(row[name], abs=1e-6)
    assert found["decision"] == row["triage"]
    assert found["called"] == ("tumoral" if row["label"] else "reactive")
    assert (found["warnings"] == []) == pd.isna(row["outside_range"])
    names = sorted(path.name for path in (cohort / "testset" / row["patient"]).iterdir())
    assert sorted(cell["image"] for cell in found["cells"]) == names
    sizes = [abs(cell["effect"]) for cell in found["cells"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 0
    assert f"probability of tumoral {found['probability']:.3f} (" in printed
    assert "not a medical device" in printed
    assert files(two_runs) == before
    assert (tmp_path / "result.json").stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_members_of_an_ensemble_get_the_inputs_that_they_use(
    two_runs, patient, cohort, tmp_path, capsys, monkeypatch
):
    """one patient, asked of an ensemble of a model of images and one of clinical values alone → the
    numbers of a table; an image or a value that no member uses is refused"""
    monkeypatch.chdir(shutil.copytree(two_runs, tmp_path / "runs"))
    words = [*CLINICAL, "trainer.max_epochs=1", "data.folds_csv=run/folds.csv"]
    cross_validate(configuration(cohort, Path("cache"), *words), Path("clinical"))
    main(["ensemble", "runs=[run,clinical]", "out=both"])
    main(["predict", "run=both", f"data.root={cohort}", "data.cache=cache"])
    table = pd.read_csv("both/test/predictions.csv", dtype={"patient": str}).set_index("patient")
    found, _ = answered(tmp_path, capsys, "run=both", *patient[0])
    row = table.loc[patient[1]["patient"]]
    assert found["probability"] == pytest.approx(row["probability"], abs=1e-6)
    assert "'weight': the run's" in refused(capsys, "predict", "run=both", *patient[0], "weight=7")


@pytest.mark.slow
def test_a_model_of_images_alone_asks_for_no_values(cohort, tmp_path, capsys, monkeypatch):
    """one patient, asked of a model without clinical values → an answer by images alone; a value
    is refused, not ignored"""
    monkeypatch.chdir(tmp_path)
    words = [*ENCODER, "model/fusion=none", "trainer.max_epochs=1"]
    cross_validate(configuration(cohort, Path("cache"), *words), Path("run"))
    main(["predict", "run=run", f"data.root={cohort}", "data.cache=cache"])
    row = pd.read_csv("run/test/predictions.csv", dtype={"patient": str}).iloc[0]
    words = ["run=run", f"images={cohort}/testset/{row['patient']}"]
    found, _ = answered(tmp_path, capsys, *words)
    assert found["probability"] == pytest.approx(row["probability"], abs=1e-6)
    assert "clinical values are none" in refused(capsys, "predict", *words, "age=60")


def test_outside_the_training_range_nobody_is_ruled_out(two_runs, patient, tmp_path, capsys):
    """a value that no training patient has → a warning that names it, and never rule_out"""
    words = [patient[0][0], "age=3", "lymphocyte_count=9.1"]
    found, printed = answered(tmp_path, capsys, f"run={two_runs}/run", *words)
    assert found["decision"] == "test"
    assert any("age" in each for each in found["warnings"])
    assert "warning: " in printed
    assert "outside the range" in found["reason"]


def test_what_is_wrong_with_one_patient_is_a_line(two_runs, patient, tmp_path, capsys):
    """a value that is missing, of another kind or unknown to the run, no folder, no image, a broken
    one → one line with what is allowed"""
    images, age, count = patient[0]
    run = f"run={two_runs}/run"
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "1.jpg").write_bytes(b"x")
    for words, says in (
        ([images, age], "lymphocyte_count=...: is missing; give it"),
        ([images, "age=old", count], "age=...: is not an age"),
        ([images, age, count, "weight=70"], "'weight': the run's clinical values are age, "),
        ([f"images={tmp_path}/nowhere", age, count], "cannot be read"),
        ([f"images={tmp_path}/empty", age, count], "no image *.jpg"),
        ([f"images={tmp_path}/broken", age, count], "1.jpg"),
        ([age, count], "age: no such key"),
        ([images, age, count, "folds=[0]"], "folds: has no effect with images="),
        ([images, age, count, age], "age: is given twice"),
        ([images, age, count, f"out={tmp_path}"], "is a folder; give a file"),
        ([images, age, count, "data.root=x"], "data.root: has no effect with images="),
        (["images=null", age, count], "the model needs the patient's images"),
    ):
        assert says in refused(capsys, "predict", run, *words)
    words = ["model=nowhere", images, age, count, "trainer.precision=32-true"]
    assert "trainer: has no effect with images=" in refused(capsys, "predict", *words)
