"""Known instances: a run on a synthetic cohort, whose cells are known, and fabricated ones."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from lymphoml.cli.main import main
from lymphoml.evaluation.instances import within_bag_auroc
from lymphoml.reports.instance_truth import with_truth
from tests.reports.fabricate import config, make_run


def table(skill, bags=40, size=20, seed=0):
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, bags * size)
    patient = np.repeat([f"Zebra{i}" for i in range(bags)], size)
    image = [f"{i:03d}.png" for i in range(size)] * bags
    shift = np.repeat(random.normal(0, 3, bags), size)  # bags differ, which must not count
    probability = 1 / (1 + np.exp(-(skill * truth + shift + random.normal(0, 1, len(truth)))))
    return pd.DataFrame(
        {"patient": patient, "image": image, "probability": probability, "truth": truth}
    )


def test_the_mean_within_bags():
    rows = table(1.0)
    each = []
    for _, bag in rows.groupby("patient"):
        rank, m = rankdata(bag["probability"]), bag["truth"].sum()
        each.append((rank[bag["truth"] == 1].mean() - (m + 1) / 2) / (len(bag) - m))
    found = within_bag_auroc(rows)
    assert found.value == pytest.approx(np.mean(each))
    assert found.low < found.value < found.high
    assert found.bags == 40


def test_no_skill_is_chance_and_bags_of_one_kind_do_not_count():
    rows = table(0.0)
    found = within_bag_auroc(rows)
    assert found.low < 0.5 < found.high
    rows.loc[rows["patient"] == "Zebra0", "truth"] = 1
    assert within_bag_auroc(rows).bags == 39
    assert within_bag_auroc(rows.assign(truth=0)).bags == 0


@pytest.fixture
def run(tmp_path):
    """A run whose images are told apart, its truth as .json and as .csv."""
    rows = table(2.0, bags=30, size=6)
    path = make_run(tmp_path / "run", config(**{"data.folds": 2}), n=30, epochs=1)
    folds = pd.read_csv(path / "predictions.csv").set_index("patient")["fold"]
    for fold in (0, 1):
        mine = rows[rows["patient"].map(folds) == fold].sample(frac=1, random_state=0)
        mine.drop(columns="truth").to_csv(path / f"fold-{fold}" / "instances.csv", index=False)
    rows.drop(columns="probability").to_csv(tmp_path / "truth.csv", index=False)
    cells = {patient: {"cells": bag["truth"].tolist()} for patient, bag in rows.groupby("patient")}
    (tmp_path / "truth.json").write_text(json.dumps({"patients": cells}))
    return path


def test_both_kinds_of_truth_say_the_same(run, capsys):
    rows = table(2.0, bags=30, size=6)
    expected = within_bag_auroc(rows)
    for name in ("truth.json", "truth.csv"):
        found = within_bag_auroc(with_truth(run, run.parent / name))
        assert found == pytest.approx(expected)
        main(["instances", f"run={run}", f"truth={run.parent / name}"])
        assert f"{expected.value:.3f} [{expected.low:.3f}" in capsys.readouterr().out


def without_a_row(folder):
    path = folder / "truth.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    return path, "is not told"


def with_a_word(folder):
    path = folder / "truth.csv"
    path.write_text(path.read_text().replace(",0\n", ",no\n", 1))
    return path, "needs one truth, 0 or 1"


def twice(folder):
    path = folder / "truth.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[1])
    return path, "needs one truth, 0 or 1"


def of_other_patients(folder):
    (folder / "truth.json").write_text(json.dumps({"patients": {"P1": {"cells": [0]}}}))
    return folder / "truth.json", "no cells, 0 or 1 an image, of patient Zebra0"


def nowhere(folder):
    return folder / "none.json", "cannot be read"


@pytest.mark.parametrize("spoil", [without_a_row, with_a_word, twice, of_other_patients, nowhere])
def test_what_is_wrong_is_one_line(spoil, run, capsys):
    path, said = spoil(run.parent)
    with pytest.raises(SystemExit) as left:
        main(["instances", f"run={run}", f"truth={path}"])
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
