"""Validation on another cohort: patients that no model was trained on"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from lymphoml.cli.main import main
from lymphoml.data.synthetic.cohort import synthesize
from tests.promises.jobs import TABLE, files, refused, renamed


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """24 labelled patients of another hospital, some with ids of the first."""
    folder = tmp_path_factory.mktemp("second") / "cohort"
    synthesize(folder, patients=24, test_patients=2, images=(2, 4), size=32, seed=7)
    return folder


@pytest.fixture
def command(two_runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(two_runs, tmp_path, dirs_exist_ok=True)
    return ["validate", "run=run", "data.cache=cache"]


def validated(*words):
    main([*words])
    return json.loads(Path("run/validation.json").read_text())["cohorts"]


def test_another_cohort_is_scored_as_it_is_predicted(command, second, capsys):
    """a labelled cohort that nobody trained on → scores, calibration and rule of the probabilities
    and decisions that predict.py gives, in validation.json, terminal and report; no id"""
    (found,) = validated(*command, f"data.root={second}")
    printed = capsys.readouterr().out
    words = ["run=run", "data.cache=cache", f"data.root={second}", "patients=all", "out=predicted"]
    main(["predict", *words])
    table = pd.read_csv("predicted/predictions.csv").set_index("patient")
    truth = pd.read_csv(second / TABLE).set_index("ID")["LABEL"]
    table = table.loc[truth.index]
    tumoral = truth == 1
    called = table["probability"] > 0.5
    assert found["patients"] == 24
    assert found["scores"]["all"]["sensitivity"]["value"] == pytest.approx(called[tumoral].mean())
    ruled_out = table["triage"] == "rule_out"
    assert found["rule"]["missed"] == ruled_out[tumoral].sum()
    assert found["rule"]["specificity"]["value"] == pytest.approx(ruled_out[~tumoral].mean())
    assert found["outside_range"] == table["outside_range"].notna().sum()
    assert {"age", "lymphocyte_count", "sex", "image focus"} <= {
        row["column"] for row in found["shift"]
    }
    main(["report", "run=run", "thumbnails=false"])
    page = Path("run/report.html").read_text()
    assert 'id="validation"' in page
    for text in ("Rule-out, carried over: sensitivity", "Recalibration, which nothing applies"):
        assert text in printed
        assert text in page
    assert not any(f'"{each}"' in Path("run/validation.json").read_text() for each in truth.index)


@pytest.mark.slow
def test_cohorts_are_kept_side_by_side(command, second, cohort, tmp_path):
    """a second cohort, and one of them again → both are kept, each once, to the same bytes"""
    first = validated(*command, f"data.root={second}")
    other = tmp_path / "third"
    synthesize(other, patients=20, test_patients=1, images=(1, 3), size=32, seed=9)
    both = validated(*command, f"data.root={other}")
    assert len(both) == 2
    assert both[0] == first[0]
    assert validated(*command, f"data.root={second}") == [both[1], first[0]]


@pytest.mark.slow
def test_an_ensemble_is_validated_by_its_members_models(command, second, capsys):
    """an ensemble, on a cohort with columns of other names and values; then a changed result → the
    scores of the probabilities that predict.py gives; one line before anything is predicted"""
    main(["ensemble", "runs=[run,other]", "out=both"])
    table = pd.read_csv(second / TABLE, dtype=str)
    words = ["run=both", "data.cache=cache", "data.id_column=Nr", "data.label_column=CLL"]
    words.append("data.label_values={reactive: 0, CLL: 1}")
    other = Path(shutil.copytree(second, "renamed"))
    for path in (other / TABLE, other / "testset" / "testset_data.csv"):
        rows = pd.read_csv(path, dtype=str).rename(columns={"ID": "Nr", "LABEL": "CLL"})
        rows["CLL"] = rows["CLL"].map({"0": "reactive", "1": "CLL", "-1": "-1"})
        rows.to_csv(path, index=False)
    main(["validate", *words, f"data.root={other}"])
    main(["predict", *words, f"data.root={other}", "patients=all", "out=predicted"])
    predicted = pd.read_csv("predicted/predictions.csv").set_index("patient")["probability"]
    label = table.set_index("ID")["LABEL"].astype(int)
    path = Path("both/validation.json")
    content = json.loads(path.read_text())
    brier = content["cohorts"][0]["scores"]["all"]["brier"]["value"]
    assert brier == pytest.approx(((predicted.loc[label.index] - label) ** 2).mean())
    path.write_text(json.dumps(content | {"cohorts": []}))
    assert "validation.json is not a result" in refused(capsys, "validate", *words)


def test_patients_that_were_trained_on_are_refused(command, cohort, second, capsys, tmp_path):
    """training patients among them: the run's own cohort, new ids with the same images, the same
    persons with new images; patients of one class → one line, exit code 2, nothing written"""
    before = files(Path("run"))
    line = refused(capsys, *command, f"data.root={cohort}")
    assert "is the table that the run was trained on" in line
    births = [f"{day}-03-1955" for day in range(10, 26)]
    other = renamed(cohort, tmp_path / "renamed", DOB=births)
    line = refused(capsys, *command, f"data.root={other}")
    assert "(0 as persons, 16 by their images)" in line
    own = pd.read_csv(cohort / TABLE, dtype=str).iloc[0]
    other = renamed(cohort, tmp_path / "numbered")  # of whom the run knows births, not ids
    line = refused(capsys, *command, f"data.root={other}", "data.person_column=ID")
    assert "(0 as persons, 16 by their images)" in line
    mixed = shutil.copytree(second, tmp_path / "mixed")
    other = pd.read_csv(mixed / TABLE, dtype=str)
    other.loc[3, ["DOB", "GENDER"]] = own[["DOB", "GENDER"]]
    other.to_csv(mixed / TABLE, index=False)
    line = refused(capsys, *command, f"data.root={mixed}")
    assert "1 of these 24 patients are among" in line
    assert "(1 as persons, 0 by their images)" in line
    other.assign(LABEL="1").to_csv(mixed / TABLE, index=False)
    line = refused(capsys, *command, f"data.root={mixed}")
    assert "are of one class" in line
    assert files(Path("run")) == before
