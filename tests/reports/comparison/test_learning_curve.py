"""The exponent of a learning curve, of runs whose AUROC is set."""

import numpy as np

from lymphoml.cli.main import main
from tests.reports.fabricate import config, make_predictions, make_run

WRONG = {10: 64, 40: 32, None: 16}  # of 160 tumoral patients, by training patients (None: 160)


def test_an_error_halved_by_four_times_the_patients_has_exponent_one_half(tmp_path, capsys):
    """4 ** -0.5 is 0.5. Runs that differ in more than their size have no curve."""
    rows = make_predictions(240, 3, 1, skill=0.0, seed=0)
    tumoral = rows["label"] == 1
    for size, wrong in WRONG.items():
        rows["probability"] = np.where(tumoral, 0.9, 0.5)
        rows.loc[tumoral.index[tumoral][:wrong], "probability"] = 0.1
        settings = {"data.folds": 3, "data.train_size": size}
        make_run(tmp_path / f"{size}", config(**settings), epochs=1, predictions=rows)
    main(["compare", f"runs={tmp_path}", "resamples=300"])
    (line,) = (each for each in capsys.readouterr().out.splitlines() if "Learning curve" in each)
    assert "n^-0.50 [-0." in line
    assert "over n = 10 to 160 training patients; twice as many multiply it by 0.71" in line
    low, high = (float(each) for each in line.split("[")[1].split("]")[0].split(","))
    assert 0.05 < high - low < 0.35
    make_run(tmp_path / "other", config(**settings, seed=1), epochs=1, predictions=rows)
    main(["compare", f"runs={tmp_path}", "resamples=300"])
    assert "Learning curve" not in capsys.readouterr().out
