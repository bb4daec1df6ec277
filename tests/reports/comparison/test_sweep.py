"""The table, figure, folds and learning curve of a sweep."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lymphoml.cli.main import main
from lymphoml.reports.comparison.sweep import draw_sweep, epoch_curve, final_scores, sweep_chart
from lymphoml.runs.finished_run import read_run
from tests.reports.fabricate import config, make_baselines, make_predictions, make_run, make_strata


def two_folds(**changes):
    return config(**{"data.folds": 2, **changes})


def predictions(*probabilities):
    """Patients of folds 0, 0, 0, 0, 1, 1, 1, 1, every other one tumoral."""
    return pd.DataFrame({"patient": [f"P{i}" for i in range(8)], "fold": [0] * 4 + [1] * 4,
                         "label": [1, 0] * 4, "probability": probabilities})  # fmt: skip


def history(*scores):
    return pd.DataFrame({"epoch": range(len(scores)), "train/loss": 0.5, "val/loss": 0.6,
                         "val/balanced_accuracy": scores})  # fmt: skip


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "sweep"
    # Fold 0 is right on everyone, fold 1 wrong on one reactive patient of two.
    good = predictions(0.9, 0.1, 0.8, 0.2, 0.7, 0.6, 0.9, 0.3)
    curves = {0: history(0.5, 0.75, 1.0), 1: history(0.5, 1.0, 0.75)}
    make_run(folder / "good", two_folds(), predictions=good, histories=curves)
    # Everyone is called tumoral, with the probabilities in reverse order.
    adam, flat = two_folds(**{"optim._target_": "torch.optim.Adam"}), history(0.5, 0.5, 0.5)
    make_run(folder / "poor", adam, predictions=predictions(*[0.6, 0.9] * 4),
             histories={0: flat, 1: flat})  # fmt: skip
    main(["compare", f"runs={folder}", "resamples=100"])
    return folder


def test_the_table_has_the_scores_worked_out_by_hand(sweep):
    rows = pd.read_csv(sweep / "ablation.csv")
    assert rows["run"].tolist() == ["good", "poor"]
    assert rows["optimiser"].tolist() == ["SGD", "Adam"]
    for column, value in (("lr", 1e-3), ("scheduler", "ExponentialLR"), ("decay", 0.95)):
        assert rows[column].tolist() == [value] * 2
    # good: 4 of 4 tumoral found, 3 of 4 reactive; poor: 4 of 4 and none.
    assert rows["balanced_accuracy"].tolist() == [(1 + 3 / 4) / 2, 0.5]
    # Of the 16 pairs, 0.6 (reactive) beats none of 0.9 0.8 0.7 0.9; in poor every pair is wrong.
    assert rows["auroc"].tolist() == [1.0, 0.0]
    assert rows["specificity_at_95"].tolist() == [1.0, 0.0]  # below 20, the lowest tumoral decides
    assert (rows["balanced_accuracy_low"] < rows["balanced_accuracy"]).all()
    assert rows["best_epoch_balanced_accuracy_mean_optimistic"].tolist() == [1.0, 0.5]
    assert rows["seconds_per_fold"].tolist() == [12.5, 12.5]
    of_good = np.mean([np.std([0.75, 1.0], ddof=1), np.std([1.0, 0.75], ddof=1)])  # epochs 2 and 3
    assert rows["std_over_epochs"].tolist() == pytest.approx([of_good, 0])
    blank = ["hard_auroc", "auroc_std", "baseline"]
    assert rows[blank].isna().all(axis=None)  # no stratum, no repeats, no baseline


def test_folds_and_the_figure_are_written_and_stay_the_same(sweep):
    both = pd.read_csv(sweep / "ablation_folds.csv")
    assert both["run"].tolist() == ["good"] * 4 + ["poor"] * 4
    rows = both[:4]
    assert rows["fold"].tolist() == ["0", "1", "mean", "std"]
    assert rows["balanced_accuracy"].tolist() == pytest.approx([1, 0.75, 0.875, 0.125 * 2**0.5])
    assert rows["best_epoch"].tolist()[:2] == [2, 1]
    assert rows["best_epoch_balanced_accuracy_optimistic"].tolist() == [1, 1, 1, 0]
    with Image.open(sweep / "ablation.png") as image:
        assert image.width >= 1500
        assert 0.02 < (np.asarray(image.convert("L")) < 250).mean() < 0.5
    files = {path: path.read_bytes() for path in sweep.glob("*.*")}
    main(["compare", f"runs={sweep}", "resamples=100"])
    assert {path: path.read_bytes() for path in sweep.glob("*.*")} == files


def test_baselines_the_hard_stratum_and_the_std_over_repeats(tmp_path, capsys):
    rows = make_predictions(40, folds=2, repeats=2, skill=1.0, seed=0)
    baselines = make_baselines(rows, logistic_regression=0.2, random_forest=2.0)
    for name, lr, skill in (("strong", 1e-3, 3.0), ("weak", 0.1, 0.2)):
        own = rows.assign(probability=make_predictions(40, 2, 2, skill, seed=3)["probability"])
        make_run(tmp_path / name, two_folds(lr=lr, **{"data.repeats": 2}), epochs=2,
                 predictions=own, baselines=baselines, strata=make_strata(rows))  # fmt: skip
    main(["compare", f"runs={tmp_path}", "resamples=100"])
    table = pd.read_csv(tmp_path / "ablation.csv")
    assert table["run"].tolist()[:2] == ["strong", "weak"]
    assert table["baseline"].tolist()[2:] == ["logistic_regression", "random_forest"]
    metrics = json.loads((tmp_path / "strong" / "metrics.json").read_text())
    scores = metrics["scores"], metrics["baselines"]["random_forest"]
    for row, by_stratum in zip((table.iloc[0], table.iloc[3]), scores, strict=True):
        for column, stratum, score in (("auroc", "all", "auroc"), ("hard_auroc", "hard", "auroc")):
            stored = [by_stratum[stratum][score][end] for end in ("value", "low", "high")]
            assert [row[f"{column}{end}"] for end in ("", "_low", "_high")] == pytest.approx(stored)
    assert table["auroc_std"][0] == pytest.approx(metrics["split_std"]["auroc"])
    assert "baseline: random" in capsys.readouterr().out


def make_curve(path, *histories):
    return read_run(make_run(path, two_folds(), predictions=predictions(*[0.9, 0.1] * 4),
                             histories=dict(enumerate(histories))))  # fmt: skip


def test_the_curve_is_the_mean_over_folds_and_ends_with_the_shortest(tmp_path):
    curve = epoch_curve(make_curve(tmp_path / "a", history(0.5, 0.7, 0.9), history(0.7, 0.7)))
    assert curve["epoch"].tolist() == [1, 2]
    assert curve["mean"].tolist() == pytest.approx([0.6, 0.7])
    assert curve["std"].tolist() == pytest.approx([0.2 / 2**0.5, 0])
    sparse = history(None, 0.7, None, 0.9)
    assert epoch_curve(make_curve(tmp_path / "b", sparse, sparse))["epoch"].tolist() == [2, 4]
    one_class = make_curve(tmp_path / "d", history(0.5, 0.7), history(None, None))
    assert epoch_curve(one_class)["mean"].tolist() == [0.5, 0.7]
    never = make_curve(tmp_path / "c", history(None, None), history(None, None))
    assert epoch_curve(never).empty
    assert sweep_chart([never]) is None


def test_the_figure_draws_each_curve_with_half_a_deviation_and_a_legend(tmp_path):
    one, other = history(0.5, 0.6, 0.5), history(0.5, 0.6, 0.9)
    same = history(0.5, 0.7, 0.6)
    runs = [make_curve(tmp_path / "a", one, other), make_curve(tmp_path / "b $x$", same, same)]
    chart = sweep_chart(runs)
    assert [series.name for series in chart.series] == ["chance", "a", "b $x$"]
    assert chart.series[1].band[2] == pytest.approx((0.7 - 0.2 / 2**0.5, 0.7 + 0.2 / 2**0.5))
    figure = draw_sweep(chart, final_scores(runs))
    axes, scores = figure.axes
    drawn = [list(line.get_ydata()) for line in axes.lines[1:]]
    assert drawn == [pytest.approx([0.5, 0.6, 0.7]), pytest.approx([0.5, 0.7, 0.6])]
    styles = {(line.get_linestyle(), line.get_marker()) for line in axes.lines}
    assert len(styles) == 3  # readable in grey
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["chance", "a", "b $x$"]
    reported = runs[0].metrics["balanced_accuracy"]  # the same predictions in both
    interval, value = (list(line.get_ydata()) for line in scores.lines[:2])
    assert interval == [reported["low"], reported["high"]]
    assert value == [reported["value"]]
    assert [line.get_color() for line in scores.lines[:2]] == [axes.lines[1].get_color()] * 2


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
