"""Predicting with an ensemble: by its members' models, and by no others."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from lymphoml.cli.config import run_config
from lymphoml.cli.main import main
from lymphoml.data.cohort import load_cohort
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.runs.ensemble import mean_probability
from lymphoml.runs.predict import fold_probabilities
from lymphoml.runs.triage_rule import apply_rule, read_rule
from tests.promises.jobs import CLINICAL, configuration
from tests.promises.test_choices import refused

SECOND = "second/predictions.csv"


@pytest.fixture(scope="module")
def trained(cohort, tmp_path_factory):
    """Two runs of the same patients and folds, the second with fewer columns."""
    folder = tmp_path_factory.mktemp("members")
    folds = f"data.folds_csv={folder}/first/folds.csv"
    for name, words in (("first", []), ("second", ["data.clinical=[age]", folds])):
        config = configuration(cohort, folder / "cache", *CLINICAL, "trainer.max_epochs=1", *words)
        if name == "second":
            kept = {key: each for key, each in config.to_dict()["data"]["columns"].items()
                    if key != "sex"}  # fmt: skip
            config = config.replace({"data.columns": kept})
        cross_validate(config, folder / name)
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


def expected_of_new(root: Path) -> pd.DataFrame:
    """By each fold: the mean of the logits of both members' models."""
    tables = []
    for member in map(Path, ("first", "second")):
        config = run_config(member, {"root": str(root)}, {})
        new = load_cohort(config.data).unlabelled
        tables.append(fold_probabilities(member, config, new, [0, 1]))
    return pd.DataFrame(mean_probability(tables), tables[0].index, [0, 1])


@pytest.mark.promise(
    "predict.py on an ensemble, whose members declare other columns of the same cohort",
    "in each fold the mean of its members' logits; a labelled patient is predicted by models that "
    "held the patient out; triage applies the same rule; its own ledger counts the use",
)
def test_an_ensemble_predicts_by_its_members_models(both, cohort):
    main(["ensemble", "runs=[second,first]", "out=again"])
    labelled = predicted("again", cohort, "patients=all")
    own = pd.read_csv("again/predictions.csv").set_index("patient")["probability"]
    np.testing.assert_allclose(labelled.loc[own.index, "probability"], own, rtol=0, atol=1e-7)
    (line,) = Path("again/ledger.jsonl").read_text().splitlines()
    assert json.loads(line)["kind"] == "predict"
    assert not Path("first/ledger.jsonl").exists()
    main(["triage", "run=again", "sensitivity=0.5"])
    new, expected = predicted("again", cohort), expected_of_new(cohort)
    assert list(new.index) == list(expected.index)
    np.testing.assert_allclose(new["probability"], expected.mean(axis=1), rtol=0, atol=1e-7)
    deviation = expected.std(axis=1, ddof=0)
    np.testing.assert_allclose(new["standard_deviation"], deviation, rtol=0, atol=1e-7)
    again = Path("again")
    assert new["triage"].to_list() == apply_rule(again, read_rule(again), expected).to_list()


@pytest.mark.promise(
    "predict.py on an ensemble, a member of which is in another folder, or is a link",
    "a line asks for members=[A,B,...], and with these it predicts the same",
)
def test_members_in_another_folder_are_given(both, cohort, capsys):
    new = predicted("both", cohort)
    moved = shutil.move("second", "moved")
    for linked in (False, True):
        if linked:
            Path("second").symlink_to(moved)
        (line,) = refused(capsys, "predict", "run=both", f"data.root={cohort}")
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
    def changed():
        change(pd.read_csv(path)).to_csv(path, index=False)

    return changed


def link():
    Path(SECOND).unlink()
    Path(SECOND).symlink_to(Path("first/predictions.csv").resolve())


def environment(**changes):
    def change():
        content = json.loads(Path("both/environment.json").read_text())
        Path("both/environment.json").write_text(json.dumps(content | changes))

    return change


def nothing():
    pass


RUN = ["run=both"]
FOLDS = "both/folds.csv"


@pytest.mark.parametrize(("change", "words", "message"), [
    (named(["first", "../second"]), RUN, "names of run folders"),
    (named(["first", ".."]), RUN, "names of run folders"),
    (named(["first", 7]), RUN, "names of run folders"),
    (named(["first", "s" * 5000]), RUN, "names of run folders"),
    (named({"first": "second"}), RUN, "names of run folders"),
    (named("first"), [*RUN, "members=[first,second]"], "names of run folders"),
    (named(["first", "third"]), RUN, "third"),
    (named(["first", "first"]), RUN, "each once"),
    (named(["both", "first"], "nested"), ["run=nested"], "both: its predictions.csv"),
    (table(SECOND, lambda rows: rows.assign(probability=rows["probability"] / 2)), RUN,
     "second: its predictions.csv"),
    (table(SECOND, lambda rows: rows.iloc[1:]), RUN,
     "second: its predictions.csv"),
    (table("second/folds.csv", lambda rows: rows.assign(fold=1 - rows["fold"])), RUN,
     "second: folds.csv differs"),
    (table(FOLDS, lambda rows: rows.assign(fold=rows["fold"] + 2)), RUN, "folds.csv differs"),
    (table(FOLDS, lambda rows: rows.assign(fold="x")), RUN, "both/folds.csv"),
    (link, RUN, "link"),
    (environment(changes=7), RUN, "environment.json is damaged"),
    (environment(changes=[{"when": "today", "changes": [1]}]), RUN, "environment.json is damaged"),
    (environment(member_predictions=None), RUN, "member_predictions"),
    (nothing, [*RUN, "members=[first]"], "has 2, each once"),
    (nothing, [*RUN, "members=[first,first]"], "has 2, each once"),
    (nothing, [*RUN, "members=[first,nowhere]"], "nowhere"),
    (nothing, [*RUN, "members=first"], "members=first"),
    (nothing, ["run=first", "members=[second]"], "first is not an ensemble"),
])  # fmt: skip
@pytest.mark.promise(
    "an ensemble whose members are gone, linked, trained again, of other folds or patients, "
    "ensembles themselves, given in part, or not named by names; damaged tables",
    "refused in a line that says which and how to fix it, exit code 2, nothing written",
)
def test_an_ensemble_predicts_by_its_members_alone(both, cohort, capsys, change, words, message):
    change()
    (line,) = refused(capsys, "predict", *words, f"data.root={cohort}")
    assert message in line


@pytest.mark.parametrize("names", [True, ["first", 7]])
@pytest.mark.promise(
    "a report of an ensemble whose members are not named by names",
    "refused in a line, exit code 2, nothing written",
)
def test_a_report_of_no_ensemble_is_refused(both, capsys, names):
    named(names)()
    (line,) = refused(capsys, "report", "run=both")
    assert "names of run folders" in line


@pytest.mark.promise(
    "an ensemble of runs that were resumed after changes",
    "its report shows the changes of all members, each once a day",
)
def test_an_ensemble_shows_its_members_changes(both):
    change = {"what": "code of lymphoml/training/lightning_module.py", "before": "a", "now": "b"}
    for name, seconds in (("first", "01"), ("second", "02")):
        content = json.loads(Path(name, "environment.json").read_text())
        session = {"when": f"2026-01-01T00:00:{seconds}+00:00", "changes": [change]}
        Path(name, "environment.json").write_text(json.dumps(content | {"changes": [session]}))
    main(["ensemble", "runs=[first,second]", "out=again"])
    main(["report", "run=again"])
    page = Path("again/report.html").read_text()
    assert page.count("lymphoml/training/lightning_module.py is changed") == 1
    assert len(json.loads(Path("again/environment.json").read_text())["changes"]) == 2
