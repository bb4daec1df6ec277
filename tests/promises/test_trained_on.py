"""What a model was learned from: nothing is joined that does not belong together."""

import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lymphoml.cli.config import data_config
from lymphoml.cli.main import main
from lymphoml.data.cohort import load_cohort
from lymphoml.runs import provenance
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.runs.known_patients import digest_person
from lymphoml.runs.test_set_log import count_uses
from lymphoml.runs.trained_on import TRAINED_ON, column_digests, differing_columns
from tests.promises import jobs
from tests.promises.jobs import CLINICAL, TABLE, files, refused, renamed, train_ends

QUICK = [*CLINICAL, "trainer.max_epochs=1"]


def test_only_cohort_and_machine_may_differ(run, cohort, capsys):
    """predict.py with another value of what decides how a model reads a patient → refused in a line
    with what may differ, exit code 2, nothing written"""
    before = files(run)
    for word in ("data.normalize_images=true", "data.eval_bag_size=2", "data.features.seed=1",
                 "data.clinical=[age]", "data={resize: 16}", "data.features={blocks: []}",
                 "trainer.max_epochs=2"):  # fmt: skip
        line = refused(capsys, "predict", f"run={run}", f"data.root={cohort}", word)
        assert "comes from the run" in line, word
        assert "data.root, data.table" in line
    assert files(run) == before


def test_a_fold_of_another_run_is_refused(configured, cohort, run, capsys):
    """a fold that was trained on another table or with other settings, copied into a run → one line
    with what differs, exit code 2, nothing is averaged; the complete run is not read either"""
    other = jobs.edited(cohort, Path("other"), LYMPH_COUNT=lambda table: 10 * table["LYMPH_COUNT"])
    cross_validate(configured(*QUICK, f"data.root={other}", "lr=0.05", "fold=1"), Path("b"))
    shutil.rmtree(run / "fold-1")
    shutil.copytree("b/fold-1", run / "fold-1")
    (run / "metrics.json").unlink()
    before = (run / "predictions.csv").read_bytes()
    (line,) = train_ends(capsys, configured(*QUICK), run)
    for words in ("fold 1 was not trained as", "lr was '0.05', must be '0.0001'",
                  "other values of lymphocyte_count"):  # fmt: skip
        assert words in line
    assert (run / "predictions.csv").read_bytes() == before


def test_folds_that_changed_since_are_refused(configured, tmp_path, capsys):
    """folds.csv of an unfinished run is exchanged, or a fold's folder copied under another number →
    training names the fold and what differs, exit code 2"""
    run = tmp_path / "run"
    cross_validate(configured(*QUICK, "fold=0"), run)
    good = (run / "folds.csv").read_bytes()
    folds = pd.read_csv(run / "folds.csv")
    folds.assign(fold=1 - folds["fold"]).to_csv(run / "folds.csv", index=False)
    (line,) = train_ends(capsys, configured(*QUICK), run)
    assert "fold 0 was not trained as the run says: other content of folds.csv" in line
    (run / "folds.csv").write_bytes(good)
    shutil.copytree(run / "fold-0", run / "fold-1")
    (line,) = train_ends(capsys, configured(*QUICK), run)
    assert f"fold-1/{TRAINED_ON}: is of fold 0" in line


def test_another_cohort_is_predicted_into_a_folder_of_its_own(run, cohort, capsys, tmp_path):
    """predict.py with another hospital's table, by default, or with out= of another cohort's
    predictions or a run → a folder of its own, refused; the run's own predictions stay"""
    other = renamed(cohort, Path("other"), "testset")
    main(["predict", "run=run", f"data.root={cohort}"])
    own = files(run / "test")
    main(["predict", "run=run", f"data.root={other}"])
    assert "a folder of their own" in capsys.readouterr().out
    (folder,) = run.glob("test-*")
    assert set(pd.read_csv(folder / "submission.csv")["ID"]) == {"B00", "B01", "B02"}
    for root, out in ((other, run / "test"), (other, run), (cohort, folder)):
        line = refused(capsys, "predict", "run=run", f"data.root={root}", f"out={out}")
        assert "another cohort" in line
    assert files(run / "test") == own


def test_only_the_runs_own_test_patients_are_submitted(run, cohort, capsys):
    """predictions of another cohort, copied to where submit looks, or changed there → refused in a
    line, nothing sent, nothing counted"""
    main(["predict", "run=run", f"data.root={renamed(cohort, Path('other'), 'testset')}"])
    assert "run predict.py again" in refused(capsys, "submit", "run=run", "message=m")
    (folder,) = run.glob("test-*")
    folder.rename(run / "test")
    line = refused(capsys, "submit", "run=run", "message=m")
    assert "not of the run's own cohort" in line
    main(["predict", "run=run", f"data.root={cohort}", f"out={run / 'test'}"])
    (run / "test" / "predictions.csv").write_text("patient,label\nB00,1\n")
    assert "has changed" in refused(capsys, "submit", "run=run", "message=m")
    assert count_uses([run]).attempts == 0


@pytest.mark.parametrize("known_by", ["person", "person, sex spelled out", "images"])
def test_training_patients_under_other_ids_are_known(
    known_by, tmp_path, cohort, configured, capsys
):
    """another table with training patients under new ids, known by birth date and sex, also with
    female written for F, or by their images alone, since it has ages only → counted, and each
    predicted by the models that did not train on them; that persons cannot be known is said"""
    run, by_person, words, columns = tmp_path / "run", known_by != "images", [], {}
    cross_validate(configured(*(QUICK if by_person else ["trainer.max_epochs=1"])), run)
    if known_by == "images":
        columns = {"LYMPH_COUNT": range(10, 16)}
        words = ["data.columns.age={kind: numeric, column: LYMPH_COUNT}"]
    elif known_by != "person":
        spelled = {"F": "Female", "M": "male"}
        columns = {"GENDER": lambda table: table["GENDER"].str.upper().map(spelled)}
        words = ["data.columns.sex.values={Female: female, male: male}"]
    other = renamed(cohort, tmp_path / "other", patients=6, **columns)
    main(["predict", f"run={run}", f"data.root={other}", f"data.cache={tmp_path / 'cache'}",
          "patients=all", f"out={tmp_path / 'out'}", *words])  # fmt: skip
    printed = capsys.readouterr().out
    persons, images = (6, 0) if by_person else (0, 6)
    assert ("persons cannot be recognised in this cohort" in printed) == (not by_person)
    assert f"6 of these 9 patients are known to the run under another id ({persons} " in printed
    assert f"{images} by their images)" in printed
    found = pd.read_csv(tmp_path / "out" / "predictions.csv").set_index("patient")
    assert found["standard_deviation"].isna().sum() == 6  # one model each
    if by_person:
        ids = pd.read_csv(cohort / TABLE, dtype=str)["ID"][:6]
        stored = pd.read_csv(run / "predictions.csv").set_index("patient")["probability"][ids]
        assert found["probability"][:6].to_list() == stored.to_list()


def test_no_run_folder_leads_to_a_person(run, cohort, tmp_path, monkeypatch, capsys):
    """the digests of persons that a run keeps → are made with the user's secret key; another user's
    prediction says that it knows persons by id and images only"""
    trained_on = json.loads((run / "fold-0" / TRAINED_ON).read_text())
    assert {len(each["person"]) for each in trained_on["patients"].values()} == {24}
    one, other = (digest_person("1950-01-01 F", key, "salt") for key in (b"a", b"b"))
    assert one != other
    command = ["predict", f"run={run}", f"data.root={cohort}", f"out={tmp_path / 'out'}"]
    main(command)
    assert "another user's key" not in capsys.readouterr().out
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    main(command)
    assert "another user's key" in capsys.readouterr().out


def encoded(cohort, path, seed, encoder=None):
    """Write feature vectors of every image, by a random projection of its pixels."""
    paths = sorted(cohort.rglob("*.jpg"))
    pixels = [np.asarray(Image.open(each).resize((4, 4)), np.float32).ravel() for each in paths]
    features = np.stack(pixels) @ np.random.default_rng(seed).normal(size=(48, 4))
    names = {"patient": [each.parent.name for each in paths], "image": [p.name for p in paths]}
    more = {} if encoder is None else {"encoder": encoder}
    np.savez(path, features=features, **names, **more)


@pytest.mark.parametrize("encoder", [None, "UNI"])
def test_features_of_another_encoder_are_refused(encoder, tmp_path, cohort, configured, capsys):
    """a file of feature vectors by another network of the same width, or one that does not say by
    which → refused in a line; the same file, or encoder, or allow_unknown_encoder=true predicts"""
    run, mine, other, unknown = (tmp_path / each for each in ("run", "a.npz", "b.npz", "c.npz"))
    encoded(cohort, mine, 0, encoder)
    encoded(cohort, other, 1, encoder and "another")
    encoded(cohort, unknown, 0)
    words = ["model/encoder=identity", "data/features=file", f"data.features.path={mine}"]
    cross_validate(configured("trainer.max_epochs=1", *words), run)

    def predict(file, *more):
        return ["predict", f"run={run}", f"data.root={cohort}", f"data.features.path={file}", *more]

    main(predict(mine))
    first = (run / "test" / "predictions.csv").read_bytes()
    line = refused(capsys, *predict(other))
    assert ("made by the encoder 'another'" if encoder else "does not say which encoder") in line
    np.savez(unknown, **dict(np.load(unknown).items()), more=[1])
    assert "does not say which encoder" in refused(capsys, *predict(unknown))
    main(predict(unknown, "allow_unknown_encoder=true"))
    if encoder:
        encoded(cohort, unknown, 0, encoder)
        main(predict(unknown))
    assert (run / "test" / "predictions.csv").read_bytes() == first


def test_the_commit_is_lymphomls_own(tmp_path, monkeypatch):
    """the project unpacked inside another repository, or git's variables of another one → no
    commit is recorded, instead of that repository's"""
    package = tmp_path / "thesis" / "lymphoml-main" / "lymphoml"
    package.mkdir(parents=True)
    commit = ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "--allow-empty", "-qm", "x"]
    for place, found in ((package.parents[1], False), (package.parent, True)):
        for words in (["init", "-q"], commit):
            subprocess.run(["git", "-C", place, *words], check=True)
        monkeypatch.setattr(provenance, "PACKAGE", package)
        assert bool(provenance.git_commit()) is found
    own = provenance.git_commit()
    monkeypatch.setenv("GIT_DIR", os.fspath(tmp_path / "thesis" / ".git"))
    assert provenance.git_commit() == own


def test_no_digest_of_a_table_leads_to_a_birth_date(cohort):
    """the digests of a table's columns that a run keeps → are of ages in whole years"""
    loaded = load_cohort(data_config("synthetic", {"root": str(cohort)}))
    years = loaded.table["age"].round()
    digests = [
        column_digests(dataclasses.replace(loaded, table=loaded.table.assign(age=ages)))
        for ages in (years, years + 0.3, years + 1)
    ]
    assert digests[0] == digests[1]
    assert differing_columns(digests[0], digests[2]) == ["age"]
