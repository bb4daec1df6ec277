"""Predictions by the models of some folds"""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lymphoml.cli.config import run_config
from lymphoml.cli.main import main
from lymphoml.data.cohort import load_cohort
from lymphoml.runs import submission
from lymphoml.runs.cohort_shift import CohortShift
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.runs.predict import fold_probabilities
from lymphoml.runs.test_set_log import LEDGER
from tests.promises.jobs import CLINICAL, TABLE, configuration, files, refused

QUICK = [*CLINICAL, "trainer.max_epochs=1"]


@pytest.fixture(scope="module")
def trained(cohort, tmp_path_factory):
    """A run whose fold 0 alone is trained, as its user gave it, and the same run, complete."""
    folder = tmp_path_factory.mktemp("trained")
    make = partial(configuration, cohort, folder / "cache", *QUICK)
    cross_validate(make("fold=0"), folder / "one", ["fold=0", *QUICK])
    shutil.copytree(folder / "one", folder / "both")
    cross_validate(make(), folder / "both")
    return folder


@pytest.fixture
def runs(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "both"):
        shutil.copytree(trained / name, name)
    return tmp_path


def predicted(cohort, run, *words, folder="test-folds-0"):
    main(["predict", f"run={run}", f"data.root={cohort}", *words])
    return pd.read_csv(Path(run, folder, "predictions.csv"), dtype={"patient": str})


def test_a_run_of_one_fold_predicts_by_that_fold(runs, cohort, capsys):
    """a run made with `fold=0` → predict names the finished folds and both ways on; `folds=[0]`
    predicts as that model does, also after the others are trained; a fold that is not finished or
    not of the run, and report, compare and triage of such a run are refused in a line"""
    before = files(Path("one"))
    predict = ["predict", "run=one", f"data.root={cohort}"]
    lacks = f"it lacks folds [1] and has [0]; the command for all: python train.py {QUICK[0]}"
    others = ["report", "run=one"], ["triage", "run=one"], ["compare", "runs=[one,both]"]
    for words in (predict, [*predict, "folds=[1]"], [*predict, "folds=[0,1]"], *others):
        assert lacks in (line := refused(capsys, *words))
        assert ("finished ones alone: folds=[...]" in line) == (words[0] == "predict")
    assert "the folds of one are [0, 1]" in refused(capsys, *predict, "folds=[7]")
    assert files(Path("one")) == before
    alone = predicted(cohort, "one", "folds=[0]")
    assert "call alike" not in capsys.readouterr().out
    both = predicted(cohort, "both", folder="test")
    alike = ((both["lowest"] > 0.5) == (both["highest"] > 0.5)).sum()
    assert f"call alike for {alike} of 3 patients" in capsys.readouterr().out
    pd.testing.assert_frame_equal(predicted(cohort, "both", "folds=[0]"), alone)
    config = run_config(Path("one"), {"root": str(cohort)}, {})
    new = load_cohort(config.data).unlabelled
    expected = fold_probabilities(Path("one"), config, new, [0], CohortShift())
    np.testing.assert_array_equal(alone["probability"], expected[0])
    assert alone["standard_deviation"].isna().all()
    Path("one/fold-0/history.csv").write_text("epoch\n")
    assert "history.csv is not as the run wrote it" in refused(capsys, *predict, "folds=[0]")


def test_named_folds_have_a_folder_and_a_submission_of_their_own(runs, cohort, capsys, monkeypatch):
    """predictions of `folds=[0]` and of all folds → neither overwrites the other, the rule of all
    folds is not applied to some, submit sends those that are named, and the ledger says which"""
    sent = []
    monkeypatch.setattr(submission, "submit", lambda file, *_: sent.append(str(file)) or "sent")
    monkeypatch.setattr(submission, "public_scores", lambda competition: None)
    submit = ["submit", "run=both", "message=m"]
    main(["triage", "run=both", "sensitivity=0.5"])
    some = predicted(cohort, "both", "folds=[0]")
    assert "or give the folds=[...] of test-folds-0" in refused(capsys, *submit)
    own = files(Path("both/test-folds-0"))
    every = predicted(cohort, "both", "folds=[1,0,0]", folder="test")
    assert files(Path("both/test-folds-0")) == own
    assert {*every} - {*some} == {"triage"}
    for out in ("test", "test-folds-0"):
        words = ["predict", "run=both", f"data.root={cohort}", "folds=[1]", f"out=both/{out}"]
        assert "other folds; give another folder" in refused(capsys, *words)
    main([*submit, "folds=[0]"])
    assert "both/test-folds-0/submission.csv, predicted by folds [0]" in capsys.readouterr().out
    main(submit)
    assert sent == ["both/test-folds-0/submission.csv", "both/test/submission.csv"]
    lines = [json.loads(line) for line in Path("both", LEDGER).read_text().splitlines()]
    assert [(line["kind"][0], line.get("folds")) for line in lines] == [
        ("p", [0]), ("p", None), ("a", [0]), ("c", [0]), ("a", None), ("c", None),
    ]  # fmt: skip
    Path("both/test-folds-0").rename("both/test-folds-1")
    assert "models of other folds" in refused(capsys, *submit, "folds=[1]")


def test_no_named_model_predicts_its_training_patients(runs, cohort, capsys):
    """`patients=all folds=[0]` → the patients that the model trained on are counted in a line and
    left out; where it trained on all, refused"""
    stored = pd.read_csv("both/fold-0/predictions.csv").set_index("patient")["probability"]
    table = predicted(cohort, "both", "folds=[0]", "patients=all").set_index("patient")
    assert len(table) == len(stored) + 3
    np.testing.assert_array_equal(table.loc[stored.index, "probability"], stored)
    line = f"{16 - len(stored)} of these 19 patients are left out: every model of folds [0]"
    assert line in capsys.readouterr().out
    other = Path(shutil.copytree(cohort, "other"))
    known = pd.read_csv(other / TABLE, dtype=str)
    trained = known[~known["ID"].isin(stored.index)]
    for part, own in ((TABLE, trained), (Path("testset/testset_data.csv"), trained[:0])):
        own.to_csv(other / part, index=False)
        for folder in (other / part.parent).glob("*/"):
            if folder.name not in {*own["ID"]}:
                shutil.rmtree(folder)
    words = ["predict", "run=both", f"data.root={other}", "folds=[0]", "patients=all"]
    assert "Name other folds" in refused(capsys, *words)
