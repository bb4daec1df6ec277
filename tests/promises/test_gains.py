"""Gains over a baseline, corrected for the number of configurations tried"""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from lymphoml.cli.main import main
from lymphoml.evaluation.paired import best_of_n_bias, holm, paired_differences
from tests.evaluation.simulated import simulate
from tests.promises.jobs import refused
from tests.reports.fabricate import config, make_predictions, make_run

CLINICAL = "logistic_regression"


@pytest.fixture
def runs(tmp_path):
    """A sweep of three, with the same baseline."""
    rows = make_predictions(40, 2, 1, skill=1.0, seed=0)
    floor = rows.rename(columns={"probability": CLINICAL}).drop(columns="label")
    for seed, name in enumerate("abc"):
        drawn = make_predictions(40, 2, 1, skill=2.0, seed=seed)["probability"]
        own, settings = rows.assign(probability=drawn), config(**{"data.folds": 2}) | {"seed": seed}
        make_run(tmp_path / "runs" / name, settings, epochs=1, predictions=own, baselines=floor)
    return tmp_path / "runs"


@pytest.mark.parametrize("count", [20, pytest.param(400, marks=pytest.mark.slow)])
def test_choosing_makes_no_gain(count):
    """the best of ten configurations that are no better than the baseline → the interval of its
    corrected gain is above 0 in at most 2.5 % of cohorts; that of its plain difference in more than
    10 %"""
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


def test_a_wrong_baseline_or_number_tried_is_named(runs, capsys):
    """fewer configurations tried than are compared; a baselines.csv with text, invalid
    probabilities, a patient twice or missing, or of other clinical columns than the other runs' →
    one line that counts them, or names the run; nothing is written"""
    words = ["compare", f"runs={runs}", "reference=clinical"]
    for tried in (2, -1):
        assert "3 runs" in refused(capsys, *words, f"tried={tried}")
    path = runs / "b" / "baselines.csv"
    good = pd.read_csv(path, dtype=str)
    wrong = [good.replace(good.loc[3, CLINICAL], value) for value in ("high", "1.5", "nan", "")]
    wrong += [pd.concat([good, good.iloc[:1]]), good.iloc[1:]]
    for table in (*wrong, good.assign(**{CLINICAL: good[CLINICAL].astype(float) ** 2})):
        table.to_csv(path, index=False)
        assert str(runs / "b") in refused(capsys, *words)
    assert not list(runs.glob("comparison.*"))


def test_a_gain_is_stored_with_the_number_tried(runs):
    """runs against a baseline that all of them contain, and others that were tried before →
    comparison.json: each difference, its interval and Holm's p, where each other test counts as p =
    1; the corrected gain of the best, and the number tried"""
    main(["compare", f"runs={runs}", "reference=clinical", "tried=40", "resamples=200"])
    stored = json.loads((runs / "comparison.json").read_text())
    assert stored["reference_is_baseline"]
    everyone = stored["strata"]["all"]
    assert (stored["configurations_tried"], everyone["n_tests"]) == (40, 80)
    rows = [row for row in everyone["results"] if not row["is_reference"]]
    p = [row["p"] for row in rows]
    assert [row["p_holm"] for row in rows] == pytest.approx(holm(p, 74).tolist())
    for score in ("balanced_accuracy", "auroc"):
        gain = everyone["best"][score]["gain"]
        assert gain["low"] < gain["value"] < gain["high"]
