"""Ensembles: the mean of logits, as a run that everything after training reads."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.evaluation.metrics import score_fold
from lymphoml.reports.ensemble import mean_of_logits, write_ensemble
from lymphoml.runs.finished_run import find_runs, read_run
from tests.reports.fabricate import config, make_predictions, make_run

TWICE = config(**{"data.folds": 3, "data.repeats": 2})


@pytest.fixture
def members(tmp_path):
    """Three seeds in the same folds, their rows in any order, with a baseline and strata."""
    rows = make_predictions(40, folds=3, repeats=2, skill=1.5, seed=0)
    paths = []
    for seed in range(3):
        drawn = make_predictions(40, folds=3, repeats=2, skill=1.5, seed=seed + 10)
        said = rows.assign(probability=drawn["probability"]).sample(frac=1, random_state=seed)
        path = make_run(
            tmp_path / "runs" / f"seed={seed}", TWICE | {"seed": seed}, predictions=said
        )
        baseline = said[["patient", "fold"]].assign(logistic_regression=0.5)
        baseline.to_csv(path / "baselines.csv", index=False)
        strata = pd.DataFrame({"patient": sorted(rows["patient"].unique())})
        strata["hard"] = [str(int(place % 2)) for place in range(len(strata))]
        strata.to_csv(path / "strata.csv", index=False)
        metrics = json.loads((path / "metrics.json").read_text()) | {"hard_max": 8.0}
        (path / "metrics.json").write_text(json.dumps(metrics))
        paths.append(path)
    return paths


def test_a_patient_has_the_mean_of_the_members_logits(members, tmp_path):
    out = tmp_path / "runs" / "ensemble"
    write_ensemble(members, out)
    keys = ["patient", "fold"]
    logits = []
    for path in members:
        told = pd.read_csv(path / "predictions.csv").set_index(keys)["probability"].sort_index()
        logits.append(np.log(told / (1 - told)))
    ours = pd.read_csv(out / "predictions.csv").set_index(keys).sort_index()
    expected = 1 / (1 + np.exp(-(logits[0] + logits[1] + logits[2]) / 3))
    np.testing.assert_allclose(ours["probability"], expected, rtol=1e-9)
    metrics = json.loads((out / "metrics.json").read_text())
    by_repeat = [
        score_fold(rows["label"], rows["probability"])["auroc"]
        for _, rows in ours.groupby(ours.index.get_level_values("fold") // 3)
    ]
    assert metrics["auroc"]["value"] == pytest.approx(np.mean(by_repeat))
    assert metrics["scores"]["hard"] is not None
    assert metrics["gain"]["reference"] == "logistic_regression"
    assert metrics["best_epoch_balanced_accuracy"]["mean"] is None


def test_what_members_do_not_share_is_left_out_or_told(members, tmp_path):
    file, out = members[1] / "baselines.csv", tmp_path / "runs" / "ensemble"
    table = pd.read_csv(file).assign(logistic_regression=0.6, morphology=0.3)
    table.to_csv(file, index=False)
    content = yaml.safe_load((members[2] / "config.yaml").read_text())
    content["data"]["shuffle_bag_labels"] = True
    (members[2] / "config.yaml").write_text(yaml.safe_dump(content))
    write_ensemble(members, out)
    assert list(pd.read_csv(out / "baselines.csv")) == ["patient", "fold"]
    assert json.loads((out / "metrics.json").read_text())["gain"] is None
    assert read_run(out).config["data"]["shuffle_bag_labels"] is True
    with pytest.raises(InputError, match=r"ensemble is an ensemble itself; give the runs"):
        write_ensemble([members[0], out], tmp_path / "other")


def test_certainty_stays_finite():
    rows = pd.DataFrame({"patient": ["A", "B"], "fold": [0, 0], "label": [1, 0]})
    sure, unsure = rows.assign(probability=[1.0, 0.0]), rows.assign(probability=[0.5, 0.5])
    mean = mean_of_logits([sure, unsure])["probability"]
    assert 0 < mean[1] < 0.001
    assert 0.999 < mean[0] < 1


def test_everything_after_training_takes_it_as_a_run(members, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["ensemble", "runs=runs", "out=runs/ensemble"])
    told = capsys.readouterr().out
    assert "out of fold, 40 patients" in told
    main(["ensemble", "runs=runs", "out=runs/ensemble"])  # now one of the folder's runs itself
    run = read_run(Path("runs/ensemble"))
    assert run.config["ensemble"] == ["seed=0", "seed=1", "seed=2"]
    assert str(tmp_path) not in (Path("runs/ensemble/environment.json")).read_text()
    main(["compare", "runs=runs", "reference=seed=0", "resamples=200"])
    compared = json.loads(Path("runs/comparison.json").read_text())
    names = {row["run"] for row in compared["runs"]}
    assert names == {"seed=0", "seed=1", "seed=2", "ensemble"}
    main(["triage", "run=runs/ensemble", "sensitivity=0.8"])
    assert json.loads(Path("runs/ensemble/triage.json").read_text())["repeats"] == 2
    main(["report", "run=runs/ensemble"])
    page = Path("runs/ensemble/report.html").read_text()
    assert "No cells are shown: an ensemble has no model that could look at one;" in page
    assert "Nothing was trained here: the pages of seed=0, seed=1, seed=2 tell" in page
    assert "an ensemble of 3 runs" in page
    main(["ablation", "runs=runs"])
    table = pd.read_csv("runs/ablation.csv")
    assert len(table[table["baseline"].isna()]) == 4
    assert table["run"][table["seconds_per_fold"].isna()].dropna().tolist() == ["ensemble"]
    main(["report", "runs=runs", "thumbnails=false"])
    overview = Path("runs/report.html").read_text()
    assert "ensemble" in overview


@pytest.mark.parametrize("begun", [False, True])
def test_an_interrupted_ensemble_is_made_again_by_the_same_words(
    members, tmp_path, monkeypatch, begun
):
    """It lies among its members, and is not finished."""
    monkeypatch.chdir(tmp_path)
    out = Path("runs/ensemble")
    if begun:
        write_ensemble(members, out)
        (out / "metrics.json").unlink()
    else:
        out.mkdir()  # and killed before its first file
    main(["ensemble", "runs=runs", f"out={out}"])
    assert read_run(out).config["ensemble"] == ["seed=0", "seed=1", "seed=2"]


def test_whoever_meets_an_interrupted_ensemble_is_told_to_make_it_again(members, tmp_path):
    out = tmp_path / "runs" / "ensemble"
    write_ensemble(members, out)
    (out / "metrics.json").unlink()
    for read, place in ((find_runs, out.parent), (read_run, out)):
        with pytest.raises(InputError, match=r"has no metrics\.json; make the ensemble again"):
            read(place)


def test_tables_that_members_no_longer_share_are_removed(members, tmp_path):
    out = tmp_path / "runs" / "ensemble"
    write_ensemble(members, out)
    assert (out / "baselines.csv").exists()
    (members[1] / "baselines.csv").unlink()
    write_ensemble(members, out)
    assert not (out / "baselines.csv").exists()
    assert read_run(out).metrics["baselines"] == {}
    main(["report", f"run={out}", "thumbnails=false"])
    assert "the members of an ensemble share none" in (out / "report.html").read_text()
