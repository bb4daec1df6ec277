"""Gains: over a baseline, and corrected for what was tried"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from lymphoml.cli.main import main
from lymphoml.evaluation.paired import paired_differences
from lymphoml.evaluation.selection import best_of_n_bias, holm
from tests.evaluation.simulated import simulate
from tests.reports.fabricate import config, make_predictions, make_run

CLINICAL = "logistic_regression"


@pytest.fixture
def runs(tmp_path):
    """A sweep of three, with the same baseline."""
    rows = make_predictions(40, 2, 1, skill=1.0, seed=0)
    floor = rows.rename(columns={"probability": CLINICAL}).drop(columns="label")
    for number, name in enumerate("abc"):
        drawn = make_predictions(40, 2, 1, skill=2.0, seed=number)["probability"]
        make_run(
            tmp_path / "runs" / name, config(**{"data.folds": 2}) | {"seed": number}, epochs=1,
            predictions=rows.assign(probability=drawn), baselines=floor,
        )  # fmt: skip
    return tmp_path / "runs"


def refused(capsys, runs, *words) -> str:
    """The one line of a refusal, with nothing written."""
    with pytest.raises(SystemExit) as left:
        main(["compare", f"runs={runs}", *words])
    assert left.value.code == 2
    assert not list(Path(runs).glob("comparison.*"))
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    return line


@pytest.mark.promise(
    "the best of ten configurations that are no better than the baseline",
    "its gain after choosing has an interval above 0 in at most 2.5 % of cohorts; its difference "
    "alone, in more than 10 %",
)
@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_choosing_makes_no_gain(count, record_property):
    random = np.random.default_rng(7)
    corrected = plain = 0
    for simulation in range(count):
        labels, models = simulate(random, (113, 50), [2.2] * 11)
        tried, reference = dict(enumerate(models[:10])), models[10:]
        best = best_of_n_bias(labels, tried, 200, simulation, reference)["balanced_accuracy"]
        alone = paired_differences(labels, tried[best.name], reference[0], 200, simulation)
        corrected += best.gain.low > 0
        plain += alone["balanced_accuracy"].low > 0
    assert corrected <= binom.ppf(0.99, count, 0.025)
    assert plain > 0.1 * count
    record_property("tried", count)


@pytest.mark.promise(
    "configurations tried elsewhere or gone, told by tried=N",
    "Holm's p is that of a table which holds their tests too, each p = 1",
)
def test_unseen_tests_count_as_rows_of_p_1(record_property):
    random, count = np.random.default_rng(0), 2000
    for _ in range(count):
        p = random.beta(0.3, 3, random.integers(1, 12)).round(3)
        unseen = int(random.integers(0, 60))
        whole = holm(np.append(p, np.ones(unseen)))
        np.testing.assert_allclose(holm(p, unseen), whole[: len(p)], rtol=1e-12)
    record_property("tried", count)


@pytest.mark.promise(
    "fewer configurations tried than are compared", "one line that counts them; nothing is written"
)
@pytest.mark.parametrize("tried", [2, 0, -1])
def test_fewer_than_there_are_is_refused(tried, runs, capsys):
    line = refused(capsys, runs, "reference=clinical", f"tried={tried}")
    assert line.startswith(f"error: tried={tried}: 3 runs are compared;")


@pytest.mark.promise(
    "runs whose baseline is of other clinical columns or data settings",
    "one line that names both runs; nothing is written",
)
def test_two_different_baselines_are_no_reference(runs, capsys):
    path = runs / "c" / "baselines.csv"
    table = pd.read_csv(path)
    table.assign(**{CLINICAL: table[CLINICAL] ** 2}).to_csv(path, index=False)
    line = refused(capsys, runs, "reference=clinical")
    assert f"{runs / 'c'} and {runs / 'a'} were trained with other clinical columns" in line


def other_rows(table, kind):
    if kind == "twice":
        return pd.concat([table, table.iloc[:1]])
    if kind == "missing":
        return table.iloc[1:]
    value = {"text": "high", "above 1": "1.5", "nothing": "", "nan": "nan"}[kind]
    table[CLINICAL] = table[CLINICAL].astype(str)
    table.loc[3, CLINICAL] = value
    return table


@pytest.mark.promise(
    "a baselines.csv with text, numbers that are no probability, a patient twice or missing",
    "one line that names the file; nothing is written",
)
@pytest.mark.parametrize("kind", ["text", "above 1", "nothing", "nan", "twice", "missing"])
def test_a_damaged_baseline_is_told(kind, runs, capsys):
    path = runs / "b" / "baselines.csv"
    other_rows(pd.read_csv(path), kind).to_csv(path, index=False)
    line = refused(capsys, runs, "reference=clinical")
    assert line.startswith(f"error: {path}: ")
    assert "train.py command again" in line


@pytest.mark.promise(
    "runs against a baseline that all of them hold",
    "each one's difference, its interval and Holm's p, and the gain of the best after choosing; "
    "in comparison.json with the number tried",
)
def test_a_gain_is_stored_with_the_number_tried(runs, record_property):
    main(["compare", f"runs={runs}", "reference=clinical", "tried=40", "resamples=200"])
    told = json.loads((runs / "comparison.json").read_text())
    assert told["reference_is_baseline"]
    everyone = told["strata"]["all"]
    assert (told["configurations_tried"], everyone["n_tests"]) == (40, 80)
    rows = [row for row in everyone["results"] if not row["is_reference"]]
    p = [row["p"] for row in rows]
    assert [row["p_holm"] for row in rows] == pytest.approx(holm(p, 74).tolist())
    for score in ("balanced_accuracy", "auroc"):
        gain = everyone["best"][score]["gain"]
        assert gain["low"] < gain["value"] < gain["high"]
    record_property("tried", len(rows))
