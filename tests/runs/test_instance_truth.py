"""Predictions of single images, joined with their known labels."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from lymphoml.cli.main import main
from lymphoml.evaluation.pooled import within_bag_auroc
from lymphoml.runs.instance_truth import score_images
from tests.promises.jobs import refused
from tests.reports.fabricate import list_files, make_small_run


def table(skill, bags=40, size=20, seed=0):
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, bags * size)
    patient = np.repeat([f"Zebra{i}" for i in range(bags)], size)
    image = [f"{i:03d}.png" for i in range(size)] * bags
    shift = np.repeat(random.normal(0, 3, bags), size)  # bags differ, which must not count
    probability = 1 / (1 + np.exp(-(skill * truth + shift + random.normal(0, 1, len(truth)))))
    columns = {"patient": patient, "image": image, "probability": probability, "truth": truth}
    return pd.DataFrame(columns)


def test_the_auroc_is_a_mean_within_patients():
    rows = table(1.0)
    expected = []
    for _, bag in rows.groupby("patient"):
        rank, m = rankdata(bag["probability"]), bag["truth"].sum()
        expected.append((rank[bag["truth"] == 1].mean() - (m + 1) / 2) / (len(bag) - m))
    found, count = within_bag_auroc(rows)
    assert found.value == pytest.approx(np.mean(expected))
    assert found.low < found.value < found.high
    assert count == 40
    rows.loc[rows["patient"] == "Zebra0", "truth"] = 1  # one kind only does not count
    assert within_bag_auroc(rows)[1] == 39


@pytest.fixture
def run(tmp_path):
    """A run with predictions of single images, and their truth as .json and as .csv."""
    rows = table(2.0, bags=30, size=6)
    path = make_small_run(tmp_path / "run")
    folds = pd.read_csv(path / "predictions.csv").set_index("patient")["fold"]
    for fold in (0, 1):
        mine = rows[rows["patient"].map(folds) == fold].sample(frac=1, random_state=0)
        mine.drop(columns="truth").to_csv(path / f"fold-{fold}" / "instances.csv", index=False)
    list_files(path)
    rows.drop(columns="probability").to_csv(tmp_path / "truth.csv", index=False)
    cells = {patient: {"cells": bag["truth"].tolist()} for patient, bag in rows.groupby("patient")}
    (tmp_path / "truth.json").write_text(json.dumps({"patients": cells}))
    return path


def test_both_kinds_of_truth_say_the_same(run, capsys):
    rows = table(2.0, bags=30, size=6)
    expected, _ = within_bag_auroc(rows)
    for name in ("truth.json", "truth.csv"):
        found, _ = score_images(run, run.parent / name)
        assert found == pytest.approx(expected)
        main(["instances", f"run={run}", f"truth={run.parent / name}"])
        assert f"{expected.value:.3f} [{expected.low:.3f}" in capsys.readouterr().out


@pytest.mark.parametrize("change", [
    lambda text: "\n".join(text.splitlines()[:-1]), lambda text: text.replace(",0\n", ",no\n", 1),
    lambda text: text + text.splitlines()[1],
])  # fmt: skip
def test_an_invalid_truth_is_one_line(change, run, capsys):
    path, other = run.parent / "truth.csv", run.parent / "truth.json"
    path.write_text(change(path.read_text()))
    other.write_text(json.dumps({"patients": {"P1": {"cells": [0]}}}))
    for file in (path, other, run.parent / "none.json"):
        assert str(file) in refused(capsys, "instances", f"run={run}", f"truth={file}")
