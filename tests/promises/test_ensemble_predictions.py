"""Predicting with an ensemble: by its members' models, and by no others."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from lymphoml.cli import main
from lymphoml.training import cross_validate
from tests.promises.jobs import CLINICAL
from tests.promises.test_choices import refused


@pytest.fixture
def both(configured, tmp_path, monkeypatch):
    """An ensemble of two runs that learned from other columns, in the same folds."""
    monkeypatch.chdir(tmp_path)
    others = ["data.clinical=[age]", "data.fold_file=first/folds.csv"]
    for name, words in (("first", []), ("second", others)):
        cross_validate(configured(*CLINICAL, *words), Path(name))
    main(["ensemble", "runs=[first,second]", "out=both"])
    return Path("both")


def predicted(run: str, root: Path, *words: str) -> pd.DataFrame:
    main(["predict", f"run={run}", f"data.root={root}", *words])
    return pd.read_csv(Path(run) / "test" / "predictions.csv").set_index("patient")


@pytest.mark.promise(
    "predict.py on an ensemble",
    "in each fold the mean of its members' logits; a labelled patient has the out-of-fold "
    "probability of the ensemble; its own ledger tells",
)
def test_an_ensemble_predicts_by_its_members_models(both, cohort, capsys):
    everybody = predicted("both", cohort, "patients=all")
    own = pd.read_csv(both / "predictions.csv").set_index("patient")["probability"]
    np.testing.assert_allclose(everybody.loc[own.index, "probability"], own, rtol=0, atol=1e-7)
    (line,) = (both / "ledger.jsonl").read_text().splitlines()
    assert json.loads(line)["kind"] == "predict"
    new = predicted("both", cohort)
    assert len(new) == 3
    elsewhere = shutil.move("second", "elsewhere")
    (line,) = refused(capsys, "predict", "run=both", f"data.root={cohort}")
    assert "member second does not lie beside it; say where all of them lie" in line
    again = predicted("both", cohort, f"members=[first,{elsewhere}]")
    pd.testing.assert_frame_equal(again, new)
    main(["triage", "run=both", "sensitivity=0.5"])
    assert set(predicted("both", cohort, f"members=[{elsewhere},first]")["triage"]) <= {
        "spare",
        "test",
    }


def rename(name):
    def change(run):
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["ensemble"] = ["first", name]
        (run / "config.yaml").write_text(yaml.safe_dump(config))

    return change


def retrain(run):
    table = pd.read_csv("second/predictions.csv")
    table.assign(probability=table["probability"] / 2).to_csv("second/predictions.csv", index=False)


def nest(run):
    main(["ensemble", "runs=[both,first]", "out=nested"])


def link(run):
    Path("second/predictions.csv").unlink()
    Path("second/predictions.csv").symlink_to(Path("first/predictions.csv").resolve())


def nothing(run):
    pass


@pytest.mark.parametrize(("change", "words", "says"), [
    (rename("../second"), ["run=both"], "names a member '../second', no folder's name"),
    (rename(".."), ["run=both"], "names a member '..', no folder's name"),
    (rename(7), ["run=both"], "names a member 7, no folder's name"),
    (rename("third"), ["run=both"], "member third does not lie beside it"),
    (rename("first"), ["run=both"], "has 2, each once"),
    (retrain, ["run=both"], "is the ensemble of other predictions than"),
    (link, ["run=both"], "a link, or no regular file"),
    (nest, ["run=nested"], "is an ensemble itself; make nested of runs that were trained"),
    (nothing, ["run=both", "members=[first]"], "has 2, each once: first, second"),
    (nothing, ["run=both", "members=[first,first]"], "has 2, each once"),
    (nothing, ["run=both", "members=[first,nowhere]"], "nowhere is no folder"),
    (nothing, ["run=both", "members=first"], "members=first: give run folders as"),
    (nothing, ["run=first", "members=[second]"], "first is no ensemble; leave it out"),
])  # fmt: skip
@pytest.mark.promise(
    "an ensemble whose members are gone, linked, trained anew, ensembles themselves, given in "
    "part, or named so that they lead out of its folder",
    "refused in a line that says which and what to do, exit code 2, nothing written",
)
def test_an_ensemble_asks_its_members_alone(both, cohort, capsys, change, words, says):
    change(both)
    (line,) = refused(capsys, "predict", *words, f"data.root={cohort}")
    assert says in line
