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
from tests.promises.jobs import CLINICAL
from tests.promises.test_choices import refused

# Of the same patients in the same folds; it declares fewer columns, so its cohort is another.
OTHERS = ["data.clinical=[age]", "~data.columns.sex", "data.folds_csv=first/folds.csv"]


@pytest.fixture
def both(configured, tmp_path, monkeypatch):
    """An ensemble of two runs."""
    monkeypatch.chdir(tmp_path)
    for name, words in (("first", []), ("second", OTHERS)):
        cross_validate(configured(*CLINICAL, *words), Path(name))
    main(["ensemble", "runs=[first,second]", "out=both"])
    return Path("both")


def predicted(run: str, root: Path, *words: str) -> pd.DataFrame:
    main(["predict", f"run={run}", f"data.root={root}", *words])
    return pd.read_csv(Path(run) / "test" / "predictions.csv").set_index("patient")


def said(root: Path) -> pd.DataFrame:
    """Of new patients, by each fold: the mean of what the models of both members say."""
    tables = []
    for member in map(Path, ("first", "second")):
        config = run_config(member, {"root": str(root)}, {})
        new = load_cohort(config["data"]).unlabelled
        tables.append(fold_probabilities(member, config, new, [0, 1]))
    return pd.DataFrame(mean_probability(tables), tables[0].index, [0, 1])


@pytest.mark.parametrize("order", ["first,second", "second,first"])
@pytest.mark.promise(
    "predict.py on an ensemble, whose members declare other columns of the same cohort",
    "in each fold the mean of its members' logits; a labelled patient is predicted by models that "
    "held the patient out, as the ensemble was; triage judges the same; its own ledger tells",
)
def test_an_ensemble_predicts_by_its_members_models(both, cohort, order):
    main(["ensemble", f"runs=[{order}]", "out=again"])
    everybody = predicted("again", cohort, "patients=all")
    own = pd.read_csv("again/predictions.csv").set_index("patient")["probability"]
    np.testing.assert_allclose(everybody.loc[own.index, "probability"], own, rtol=0, atol=1e-7)
    (line,) = Path("again/ledger.jsonl").read_text().splitlines()
    assert json.loads(line)["kind"] == "predict"
    assert not Path("first/ledger.jsonl").exists()
    main(["triage", "run=again", "sensitivity=0.5"])
    new, expected = predicted("again", cohort), said(cohort)
    assert list(new.index) == list(expected.index)
    np.testing.assert_allclose(new["probability"], expected.mean(axis=1), rtol=0, atol=1e-7)
    deviation = expected.std(axis=1, ddof=0)
    np.testing.assert_allclose(new["standard_deviation"], deviation, rtol=0, atol=1e-7)
    again = Path("again")
    assert new["triage"].to_list() == apply_rule(again, read_rule(again), expected).to_list()


@pytest.mark.promise(
    "predict.py on an ensemble, a member of which lies elsewhere, or is a link",
    "a line says to give their places, and with these it predicts the same",
)
def test_members_that_lie_elsewhere_are_given(both, cohort, capsys):
    new = predicted("both", cohort)
    elsewhere = shutil.move("second", "elsewhere")
    for linked in (False, True):
        if linked:
            Path("second").symlink_to(elsewhere)
        (line,) = refused(capsys, "predict", "run=both", f"data.root={cohort}")
        assert "member second does not lie beside it, as one folder of this name; say where" in line
    again = predicted("both", cohort, f"members=[{elsewhere},first]")
    pd.testing.assert_frame_equal(again, new)


def named(names):
    def change():
        config = yaml.safe_load(Path("both/config.yaml").read_text())
        Path("both/config.yaml").write_text(yaml.safe_dump(config | {"ensemble": names}))

    return change


def table(path, change):
    def changed():
        change(pd.read_csv(path)).to_csv(path, index=False)

    return changed


SECOND = "second/predictions.csv"


def nest():
    """As an earlier version would have made it."""
    shutil.copytree("both", "nested")
    config = yaml.safe_load(Path("both/config.yaml").read_text())
    Path("nested/config.yaml").write_text(yaml.safe_dump(config | {"ensemble": ["both", "first"]}))


def twice():
    Path("second").rename("first/first")
    config = yaml.safe_load(Path("both/config.yaml").read_text())
    Path("both/config.yaml").write_text(yaml.safe_dump(config | {"ensemble": ["first", "first"]}))


def link():
    Path(SECOND).unlink()
    Path(SECOND).symlink_to(Path("first/predictions.csv").resolve())


def drifted(value):
    def change():
        told = json.loads(Path("both/environment.json").read_text())
        Path("both/environment.json").write_text(json.dumps(told | {"drift": value}))

    return change


def nothing():
    pass


RUN = ["run=both"]


@pytest.mark.parametrize(("change", "words", "says"), [
    (named(["first", "../second"]), RUN, "'../second']\": allowed are the names of run folders"),
    (named(["first", ".."]), RUN, "allowed are the names of run folders"),
    (named(["first", 7]), RUN, "7]\": allowed are the names"),
    (named(["first", "s" * 5000]), RUN, "allowed are the names of run folders"),
    (named(7), RUN, "ensemble='7': allowed are the names"),
    (named({"first": "second"}), RUN, "allowed are the names of run folders"),
    (named("first"), [*RUN, "members=[first,second]"], "ensemble='first': allowed are the names"),
    (named(["first", "third"]), RUN, "member third does not lie beside it"),
    (named(["first"]), [*RUN, "members=[first]"], "is the ensemble of other predictions than"),
    (twice, RUN, "member first does not lie beside it, as one folder of this name"),
    (table(SECOND, lambda rows: rows.assign(probability=rows["probability"] / 2)), RUN,
     "is the ensemble of other predictions than"),
    (table(SECOND, lambda rows: rows.assign(fold=1 - rows["fold"])), RUN,
     "second: predictions.csv tells of other rows than folds.csv"),
    (table(SECOND, lambda rows: rows.iloc[1:]), RUN, "tells of other rows than folds.csv"),
    (table(SECOND, lambda rows: pd.concat([rows, rows.iloc[:1]])), RUN, "tells of other rows"),
    (table(SECOND, lambda rows: rows.drop(columns="probability")), RUN, "no column probability"),
    (table(SECOND, lambda rows: rows.assign(probability="x")), RUN, "probability that is none"),
    (table("both/predictions.csv", lambda rows: rows.assign(probability="x")), RUN,
     "probability that is none"),
    (table("both/folds.csv", lambda rows: rows.assign(fold=rows["fold"] + 2)), RUN,
     "both: predictions.csv tells of other rows than folds.csv"),
    (link, RUN, "a link, or no regular file"),
    (nest, ["run=nested"], "is an ensemble itself; make nested of runs that were trained"),
    (drifted(7), RUN, "environment.json is damaged: drift is no list"),
    (drifted([{"when": "today", "changes": [1]}]), RUN, "drift is no list"),
    (nothing, [*RUN, "members=[first]"], "has 2, each once: first, second"),
    (nothing, [*RUN, "members=[first,first]"], "has 2, each once"),
    (nothing, [*RUN, "members=[first,nowhere]"], "nowhere is no folder"),
    (nothing, [*RUN, "members=first"], "members=first: give run folders as"),
    (nothing, ["run=first", "members=[second]"], "first is no ensemble; leave it out"),
])  # fmt: skip
@pytest.mark.promise(
    "an ensemble whose members are gone, linked, trained anew, of other folds or patients, "
    "ensembles themselves, given in part, or named by what is no name; damaged tables",
    "refused in a line that says which and what to do, exit code 2, nothing written",
)
def test_an_ensemble_asks_its_members_alone(both, cohort, capsys, change, words, says):
    change()
    (line,) = refused(capsys, "predict", *words, f"data.root={cohort}")
    assert says in line


@pytest.mark.parametrize("names", [7, True, [1, 2], ["first", 7]])
@pytest.mark.promise(
    "a page of an ensemble whose members are named by what is no name",
    "refused in a line, exit code 2, nothing written",
)
def test_a_page_of_no_ensemble_is_refused(both, capsys, names):
    named(names)()
    (line,) = refused(capsys, "report", "run=both")
    assert "allowed are the names of run folders" in line


@pytest.mark.promise(
    "an ensemble of runs that drifted", "told once a day and change, of all members"
)
def test_an_ensemble_tells_its_members_drift(both):
    change = {"what": "code of lymphoml/training/lightning_module.py", "before": "a", "now": "b"}
    for name, seconds in (("first", "01"), ("second", "02")):
        told = json.loads(Path(name, "environment.json").read_text())
        session = {"when": f"2026-01-01T00:00:{seconds}+00:00", "changes": [change]}
        Path(name, "environment.json").write_text(json.dumps(told | {"drift": [session]}))
    main(["ensemble", "runs=[first,second]", "out=again"])
    main(["report", "run=again"])
    page = Path("again/report.html").read_text()
    assert "lymphoml/training/lightning_module.py has changed since it was begun" in page
    assert len(json.loads(Path("again/environment.json").read_text())["drift"]) == 2
