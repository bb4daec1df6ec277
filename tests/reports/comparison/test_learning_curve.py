"""The exponent of a learning curve, of runs whose AUROC is set."""

import numpy as np
import pandas as pd
import pytest

from lymphoml.cli.main import main
from tests.reports.fabricate import config, make_predictions, make_run

SIZES = {10: 64, 40: 32, None: 16}  # training patients (None: 160), and wrong ones of 160 tumoral


@pytest.fixture
def sweep(tmp_path):
    rows = make_predictions(240, 3, 1, skill=0.0, seed=0)
    for size, wrong in SIZES.items():
        tumoral = rows["label"] == 1
        probability = np.where(tumoral, 0.9, 0.5)
        probability[np.flatnonzero(tumoral)[:wrong]] = 0.1
        changed = config(**{"data.folds": 3, "data.train_size": size})
        make_run(
            tmp_path / f"{size}",
            changed,
            epochs=1,
            predictions=rows.assign(probability=probability),
        )
    return tmp_path


def compared(sweep, capsys):
    main(["compare", f"runs={sweep}", "resamples=500"])
    return [line for line in capsys.readouterr().out.splitlines() if "Learning curve" in line]


def test_an_error_halved_by_four_times_the_patients_has_exponent_one_half(sweep, capsys):
    """4 ** -0.5 is 0.5; the interval is that of shares of 160 patients: some 0.15 wide."""
    (line,) = compared(sweep, capsys)
    assert "falls as n^-0.50 [-0." in line
    assert "over n = 10 to 160 training patients" in line
    assert line.endswith("multiply it by 0.71")
    low, high = (float(each) for each in line.split("[")[1].split("]")[0].split(","))
    assert 0.05 < high - low < 0.35


def test_runs_that_differ_in_more_than_their_size_have_no_curve(sweep, capsys):
    changed = config(**{"data.folds": 3, "data.train_size": 80, "seed": 1})
    rows = pd.read_csv(sweep / "10" / "predictions.csv")
    make_run(sweep / "80", changed, epochs=1, predictions=rows)
    assert compared(sweep, capsys) == []
