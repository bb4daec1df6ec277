"""Ensembles: the mean of logits, as a run that every later command reads."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.special import expit, logit

from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.evaluation.pooled import pool
from lymphoml.reports.ensemble import mean_of_logits, write_ensemble
from lymphoml.runs.finished_run import read_run
from tests.reports.fabricate import (
    config,
    list_files,
    make_baselines,
    make_predictions,
    make_run,
    make_strata,
)

TWICE = config(**{"data.folds": 3, "data.repeats": 2})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three seeds in the same folds, their rows in any order, with a baseline and strata."""
    folder = tmp_path_factory.mktemp("members")
    rows = make_predictions(40, folds=3, repeats=2, skill=1.5, seed=0)
    baselines = make_baselines(rows, logistic_regression=1.0)
    for seed in range(3):
        drawn = make_predictions(40, folds=3, repeats=2, skill=1.5, seed=seed + 10)
        own = rows.assign(probability=drawn["probability"]).sample(frac=1, random_state=seed)
        strata = make_strata(rows)
        strata["site"] = strata["sex"].map({"F": "01", "M": "1"})
        make_run(folder / f"seed={seed}", TWICE | {"seed": seed}, epochs=2, predictions=own,
                 baselines=baselines, strata=strata)  # fmt: skip
    return folder


@pytest.fixture
def members(made, tmp_path):
    shutil.copytree(made, tmp_path / "runs")
    return sorted((tmp_path / "runs").iterdir())


def test_a_patient_has_the_mean_of_the_members_logits(members, tmp_path):
    out = tmp_path / "runs" / "ensemble"
    write_ensemble(members, out)
    mean, *tables = (
        pd.read_csv(path / "predictions.csv").sort_values(["fold", "patient"], ignore_index=True)
        for path in (out, *members)
    )
    logits = [logit(table["probability"]) for table in tables]
    expected = expit((logits[0] + logits[1] + logits[2]) / 3)
    np.testing.assert_allclose(mean["probability"], expected, rtol=1e-9)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["auroc"] == pytest.approx(pool(mean, 3, ["auroc"])["auroc"])
    assert metrics["scores"]["hard"] is not None
    assert [each["site"] for each in metrics["sites"]] == ["01", "1"]
    assert metrics["gain"]["reference"] == "logistic_regression"
    assert metrics["best_epoch_balanced_accuracy"]["mean"] is None


def test_only_what_members_share_is_kept(members, tmp_path):
    file, out = members[1] / "baselines.csv", tmp_path / "runs" / "ensemble"
    write_ensemble(members, out)
    assert list(pd.read_csv(out / "baselines.csv")) == ["patient", "fold", "logistic_regression"]
    pd.read_csv(file).assign(logistic_regression=0.6, morphology=0.3).to_csv(file, index=False)
    list_files(members[1])
    write_ensemble(members, out)
    assert list(pd.read_csv(out / "baselines.csv")) == ["patient", "fold"]
    assert read_run(out).metrics["gain"] is None
    file.unlink()
    list_files(members[1])
    write_ensemble(members, out)
    assert not (out / "baselines.csv").exists()
    with pytest.raises(InputError, match="is an ensemble itself"):
        write_ensemble([members[0], out], tmp_path / "other")
    content = yaml.safe_load((members[2] / "config.yaml").read_text())
    for section, key, value in (("data", "shuffle_bag_labels", True),
                                ("loss", "pos_weight", "balanced")):  # fmt: skip
        changed = content | {section: content.get(section, {}) | {key: value}}
        (members[2] / "config.yaml").write_text(yaml.safe_dump(changed))
        list_files(members[2])
        with pytest.raises(InputError, match=rf"{section}\.{key} differs"):
            write_ensemble(members, out)


def test_certainty_stays_finite():
    rows = pd.DataFrame({"patient": ["A", "B"], "fold": [0, 0], "label": [1, 0]})
    rows["outside_range"] = ["", "age below 20"]
    sure, unsure = rows.assign(probability=[1.0, 0.0]), rows.assign(probability=[0.5, 0.5])
    mean = mean_of_logits([sure, unsure])["probability"]
    assert 0 < mean[1] < 0.001
    assert 0.999 < mean[0] < 1


def test_every_later_command_takes_it_as_a_run(members, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = Path("runs/ensemble")
    main(["ensemble", "runs=runs", f"out={out}"])
    main(["ensemble", "runs=runs", f"out={out}"])  # now one of the folder's runs itself
    assert read_run(out).config["ensemble"] == ["seed=0", "seed=1", "seed=2"]
    assert str(tmp_path) not in (out / "environment.json").read_text()
    main(["compare", "runs=runs", "reference=seed=0", "resamples=100"])
    compared = json.loads(Path("runs/comparison.json").read_text())
    names = {row["run"] for row in compared["strata"]["all"]["results"]}
    assert names == {"seed=0", "seed=1", "seed=2", "ensemble"}
    table = pd.read_csv("runs/ablation.csv")
    table = table[table["baseline"].isna()].set_index("run")
    assert table["seconds_per_fold"].isna()[["ensemble", "seed=0"]].tolist() == [True, False]
    main(["report", f"run={out}"])
    page = (out / "report.html").read_text()
    assert "an ensemble is not explained; see the reports of its members" in page
    assert "An ensemble has no learning curves" in page
