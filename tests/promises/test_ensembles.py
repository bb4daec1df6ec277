"""Ensembles: they predict by their members' models, and by no others."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from unittest.mock import DEFAULT, Mock, patch

import numpy as np
import pandas as pd
import pytest
import yaml

from lymphoml.cli.config import run_config
from lymphoml.cli.main import main
from lymphoml.data.cohort import load_cohort
from lymphoml.evaluation.summary import summarise
from lymphoml.reports.ensemble import write_ensemble
from lymphoml.runs.cohort_shift import CohortShift
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.runs.ensemble import mean_probability
from lymphoml.runs.predict import fold_probabilities
from lymphoml.runs.triage_rule import apply_rule, read_rule
from tests.promises.jobs import CLINICAL, configuration, files, train_ends
from tests.promises.jobs import refused as refused_line
from tests.reports.fabricate import config, list_files, make_predictions, make_run

MEMBERS = "runs=[runs/seed=0,runs/seed=1,runs/seed=2]"
SECOND, FOLDS = "second/predictions.csv", "both/folds.csv"


def refused(capsys, *words) -> str:
    """The line of a refusal, and that nothing was written."""
    before = files(Path())
    line = refused_line(capsys, *words)
    assert files(Path()) == before
    return line


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Three runs of the same folds, one of others, one of other patients, one unfinished."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    rows = make_predictions(30, folds=5, repeats=1, skill=2.0, seed=0)
    for seed in range(3):
        drawn = make_predictions(30, folds=5, repeats=1, skill=2.0, seed=seed)
        same = rows.assign(probability=drawn["probability"])
        make_run(folder / f"seed={seed}", config(seed=seed), predictions=same, epochs=1)
    make_run(folder / "folds", n=30, seed=9, epochs=1)
    make_run(folder / "patients", predictions=rows[rows["patient"] != "Zebra7"], epochs=1)
    make_run(folder / "unfinished", predictions=rows, epochs=1)
    (folder / "unfinished" / "fold-1" / "done.json").unlink()
    return folder


def test_an_ensemble_of_what_does_not_fit_is_refused(runs, capsys):
    """an ensemble of runs of other folds or patients, unfinished, given twice, or into a folder
    that holds something else → refused in a line naming the run and what differs, exit code 2,
    nothing written"""
    for given, message in {
        "runs=[runs/seed=0,runs/folds] out=e": "runs/folds",
        "runs=[runs/seed=0,runs/patients] out=e": "patient Zebra7",
        "runs=[runs/seed=0,runs/unfinished] out=e": "lacks folds [1]",
        "runs=[runs/seed=0] out=e": "two or more",
        "runs=[runs/seed=0,runs/seed=1,runs/seed=0] out=e": "two or more",
        "runs=[runs/seed=0,runs/nowhere] out=e": "runs/nowhere",
        f"{MEMBERS} out=runs/folds": "out=runs/folds",
        MEMBERS: "out=...",
    }.items():
        assert message in refused(capsys, "ensemble", *given.split())


@pytest.mark.slow
def test_an_interrupted_ensemble_is_unfinished_and_made_again(runs, capsys):
    """an ensemble that was interrupted at any of its files, or is made again → it counts as
    unfinished until its last file; the same command ends in the same bytes"""
    main(["ensemble", MEMBERS, "out=whole"])
    whole = {name.removeprefix("whole/"): content for name, content in files(Path("whole")).items()}
    for room in (0, 1, len(whole) // 2, len(whole) - 2):  # without the lock's file
        out = Path(f"broken{room}")
        # Then the disk is full.
        full = Mock(side_effect=[DEFAULT] * room + [OSError(28, "No space left")], wraps=os.replace)
        with patch("os.replace", full), pytest.raises(SystemExit) as left:
            main(["ensemble", MEMBERS, f"out={out}"])
        assert left.value.code == 1
        assert sum(path.is_file() for path in out.rglob("*")) == room + 1
        line = refused(capsys, "report", f"run={out}")
        assert "is not finished" in line or "is not a run" in line
        main(["ensemble", MEMBERS, f"out={out}"])
        again = {str(Path(name).relative_to(out)): content for name, content in files(out).items()}
        assert again == whole


def test_two_ensembles_at_once_in_one_folder(runs):
    """two ensembles made at once in one folder → of the same members both; of others one, and the
    other is refused in a line"""
    members = [runs / f"seed={seed}" for seed in range(3)]
    write_ensemble(members[:2], Path("alone"))
    met = Barrier(2)

    def meet(*arguments):
        met.wait()  # both have found the folder empty
        return summarise(*arguments)

    with patch("lymphoml.reports.ensemble.summarise", meet), ThreadPoolExecutor(2) as pool:
        for other, failures in ((members[:2], 0), (members[1:], 1)):
            out = Path(f"failures-{failures}")
            jobs = [pool.submit(write_ensemble, each, out) for each in (members[:2], other)]
            errors = [error for job in jobs if (error := job.exception())]
            assert [str(error) for error in errors] == [
                f"out={out}: has other content; choose another folder"] * failures  # fmt: skip
            made = {**files(out)}
            assert f"{out}/metrics.json" in made
            if not failures or errors[0] is jobs[1].exception():
                for path, content in files(Path("alone")).items():
                    assert made[path.replace("alone", str(out), 1)] == content


@pytest.fixture(scope="module")
def trained(clinical_run, cohort, tmp_path_factory):
    """Two runs of the same patients and folds, the second of another seed and fewer columns."""
    folder = tmp_path_factory.mktemp("members")
    shutil.copytree(clinical_run, folder / "first")
    config = configuration(
        cohort, folder / "cache", *CLINICAL, "trainer.max_epochs=1", "seed=1",
        "data.clinical=[age]", f"data.folds_csv={folder}/first/folds.csv",
    )  # fmt: skip
    columns = config.to_dict()["data"]["columns"]
    columns.pop("sex")
    cross_validate(config.replace({"data.columns": columns}), folder / "second")
    return folder


@pytest.fixture
def both(trained, tmp_path, monkeypatch):
    """An ensemble of the two, in copies."""
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second"):
        shutil.copytree(trained / name, name)
    main(["ensemble", "runs=[first,second]", "out=both"])
    return Path("both")


def predicted(run: str, root: Path, *words: str) -> pd.DataFrame:
    main(["predict", f"run={run}", f"data.root={root}", *words])
    return pd.read_csv(Path(run) / "test" / "predictions.csv").set_index("patient")


def test_seeds_share_the_folds_of_a_file(both):
    """another seed with `data.folds_csv` of the first one's run → the same folds, other draws; the
    two make an ensemble"""
    folds = {Path(name, "folds.csv").read_bytes() for name in ("first", "second", "both")}
    assert len(folds) == 1
    assert Path("first/predictions.csv").read_bytes() != Path(SECOND).read_bytes()


def test_an_ensemble_is_not_trained(configured, both, capsys):
    """train.py on an ensemble, which has no models of its own → refused in a line, exit code 2,
    nothing written"""
    before = files(both)
    lines = train_ends(capsys, configured(*CLINICAL), both)
    assert any("ensemble was ['first', 'second']" in line for line in lines)
    new = {name: each for name, each in files(both).items() if before.get(name) != each}
    assert all(".lock" in name for name in new)
    assert before.keys() <= files(both).keys()


def test_an_ensemble_predicts_by_its_members_models(both, cohort):
    """predict.py on an ensemble, whose members declare other columns of the same cohort → in each
    fold the mean of its members' logits; a labelled patient is predicted by models that held the
    patient out; triage applies the same rule; `folds=[1]` is that fold's; its ledger counts"""
    main(["ensemble", "runs=[second,first]", "out=again"])
    labelled = predicted("again", cohort, "patients=all")
    own = pd.read_csv("again/predictions.csv").set_index("patient")["probability"]
    np.testing.assert_allclose(labelled.loc[own.index, "probability"], own, rtol=0, atol=1e-7)
    (line,) = Path("again/ledger.jsonl").read_text().splitlines()
    assert json.loads(line)["kind"] == "predict"
    assert not Path("first/ledger.jsonl").exists()
    main(["triage", "run=again", "sensitivity=0.5"])
    tables, shift = [], CohortShift()
    for member in map(Path, ("first", "second")):
        config = run_config(member, {"root": str(cohort)}, {})
        unlabelled = load_cohort(config.data).unlabelled
        tables.append(fold_probabilities(member, config, unlabelled, [0, 1], shift))
    expected = pd.DataFrame(mean_probability(tables), tables[0].index, [0, 1])
    new = predicted("again", cohort)
    assert list(new.index) == list(expected.index)
    np.testing.assert_allclose(new["probability"], expected.mean(axis=1), rtol=0, atol=1e-7)
    deviation = expected.std(axis=1, ddof=0)
    np.testing.assert_allclose(new["standard_deviation"], deviation, rtol=0, atol=1e-7)
    again = Path("again")
    scores = expected.mask(shift.outside(expected) != "", np.inf)
    assert new["triage"].to_list() == apply_rule(again, read_rule(again), scores).to_list()
    main(["predict", "run=again", f"data.root={cohort}", "folds=[1]"])
    some = pd.read_csv("again/test-folds-1/predictions.csv")
    np.testing.assert_allclose(some["probability"], expected[1], rtol=0, atol=1e-7)


def test_members_in_another_folder_are_given(both, cohort, capsys):
    """predict.py on an ensemble, a member of which is in another folder, or is a link → a line asks
    for members=[A,B,...], and with these it predicts the same"""
    new = predicted("both", cohort)
    moved = shutil.move("second", "moved")
    for linked in (False, True):
        if linked:
            Path("second").symlink_to(moved)
        line = refused(capsys, "predict", "run=both", f"data.root={cohort}")
        assert "second" in line
        assert "members=[A,B,...]" in line
    again = predicted("both", cohort, f"members=[{moved},first]")
    pd.testing.assert_frame_equal(again, new)


def named(names, out="both"):
    def change():
        if out != "both":
            shutil.copytree("both", out)
        config = yaml.safe_load(Path("both/config.yaml").read_text())
        Path(out, "config.yaml").write_text(yaml.safe_dump(config | {"ensemble": names}))

    return change


def table(path, change):
    return lambda: change(pd.read_csv(path)).to_csv(path, index=False)


def link():
    Path(SECOND).unlink()
    Path(SECOND).symlink_to(Path("first/predictions.csv").resolve())


def environment(run="both", **changes):
    path = Path(run, "environment.json")
    return lambda: path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def list_runs():
    for path in Path().glob("*/config.yaml"):
        list_files(path.parent)


NAMES = "names of run folders"


@pytest.mark.parametrize(("change", "words", "message"), [
    *((named(names), "run=both", NAMES)
      for names in (["first", "../second"], ["first", 7], {"first": "second"})),
    (named("first"), "run=both members=[first,second]", NAMES),
    (named(["first", "third"]), "run=both", "third"),
    (named(["first", "first"]), "run=both", "each once"),
    (named(["both", "first"], "nested"), "run=nested", "both: its predictions.csv"),
    (table(SECOND, lambda rows: rows.assign(probability=rows["probability"] / 2)), "run=both",
     "second: its predictions.csv"),
    (table(SECOND, lambda rows: rows.iloc[1:]), "run=both", "second: its predictions.csv"),
    (table("second/folds.csv", lambda rows: rows.assign(fold=1 - rows["fold"])), "run=both",
     "second: folds.csv differs"),
    (table(FOLDS, lambda rows: rows.assign(fold=rows["fold"] + 2)), "run=both",
     "folds.csv differs"),
    (table(FOLDS, lambda rows: rows.assign(fold="x")), "run=both", "both/folds.csv"),
    (link, "run=both", "link"),
    (environment(changes=[{"when": "today", "changes": [1]}]), "run=both",
     "environment.json is damaged"),
    (environment(member_predictions=None), "run=both", "member_predictions"),
    (None, "run=both members=[first]", "has 2, each once"),
    (None, "run=both members=[first,first]", "has 2, each once"),
    (None, "run=both members=[first,nowhere]", "nowhere"),
    (None, "run=both members=first", "members=first"),
    (None, "run=first members=[second]", "first is not an ensemble"),
])  # fmt: skip
def test_an_ensemble_predicts_by_its_members_alone(both, cohort, capsys, change, words, message):
    """an ensemble whose members are gone, linked, trained again, of other folds or patients,
    ensembles themselves, given in part, or not named by names; damaged tables → refused in a line
    that says which and how to fix it, exit code 2, nothing written"""
    if change:
        change()
        list_runs()
    assert message in refused(capsys, "predict", *words.split(), f"data.root={cohort}")
    if message == NAMES:
        assert NAMES in refused(capsys, "report", "run=both")


def test_a_changed_ensemble_is_refused(both, cohort, capsys):
    """a table of the ensemble itself, by which its rule decides, is changed → refused in a line"""
    table("both/predictions.csv", lambda rows: rows.iloc[1:])()
    line = refused(capsys, "predict", "run=both", f"data.root={cohort}")
    assert "both/predictions.csv is not as the run wrote it" in line


def test_an_ensemble_shows_its_members_changes(both):
    """an ensemble of runs that were resumed after changes → its report shows the changes of all
    members, each once a day"""
    change = {"what": "code of lymphoml/training/lightning_module.py", "before": "a", "now": "b"}
    for name, seconds in (("first", "01"), ("second", "02")):
        session = {"when": f"2026-01-01T00:00:{seconds}+00:00", "changes": [change]}
        environment(name, changes=[session])()
    list_runs()
    main(["ensemble", "runs=[first,second]", "out=again"])
    main(["report", "run=again"])
    page = Path("again/report.html").read_text()
    assert page.count("lymphoml/training/lightning_module.py is changed") == 1
    assert len(json.loads(Path("again/environment.json").read_text())["changes"]) == 2
