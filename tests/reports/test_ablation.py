import json
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from lymphoml.core.errors import InputError
from lymphoml.reports.ablation.figure import ablation_figure, spread
from lymphoml.reports.ablation.scores import score_table
from lymphoml.reports.ablation.summary import epoch_curve, fold_table, summarise_ablation
from lymphoml.reports.page.names import run_labels
from lymphoml.runs.finished_run import read_run
from tests.reports.fabricate import config, make_run


def two_folds(**changes):
    return config(**{"data.folds": 2, **changes})


def predictions(*probabilities):
    """Patients of folds 0, 0, 0, 0, 1, 1, 1, 1, every other one tumoral."""
    return pd.DataFrame(
        {
            "patient": [f"P{i}" for i in range(8)],
            "fold": [0] * 4 + [1] * 4,
            "label": [1, 0] * 4,
            "probability": probabilities,
        }
    )


def history(*scores):
    epochs = len(scores)
    return pd.DataFrame(
        {
            "epoch": range(epochs), "lr": 0.1, "train/loss": 0.5, "val/loss": 0.6,
            "val/balanced_accuracy": scores, "images_per_second": 10.0,
        }
    )  # fmt: skip


def make_sweep(folder):
    make_run(
        folder / "good", two_folds(),
        # Fold 0 errs on no one, fold 1 on one reactive patient of two.
        predictions=predictions(0.9, 0.1, 0.8, 0.2, 0.7, 0.6, 0.9, 0.3),
        histories={0: history(0.5, 0.75, 1.0), 1: history(0.5, 1.0, 0.75)},
    )  # fmt: skip
    make_run(
        folder / "poor", two_folds(**{"optim._target_": "torch.optim.Adam"}),
        # Everyone is called tumoral, with the probabilities in reverse order.
        predictions=predictions(0.6, 0.9, 0.6, 0.9, 0.6, 0.9, 0.6, 0.9),
        histories={0: history(0.5, 0.5, 0.5), 1: history(0.5, 0.5, 0.5)},
    )  # fmt: skip
    return folder


def summarise(folder):
    out = StringIO()
    paths = summarise_ablation(folder, Console(file=out, width=160))
    return paths, out.getvalue()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return make_sweep(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def summary(sweep):
    return summarise(sweep)


def test_the_table_holds_the_scores_worked_out_by_hand(summary):
    (table, _, _), _ = summary
    rows = pd.read_csv(table)
    assert rows["run"].tolist() == ["good", "poor"]
    assert rows["optimiser"].tolist() == ["SGD", "Adam"]
    assert rows["lr"].tolist() == [1e-3, 1e-3]
    assert rows["scheduler"].tolist() == ["ExponentialLR"] * 2
    assert rows["decay"].tolist() == [0.95] * 2
    # good: 4 of 4 tumoral found, 3 of 4 reactive; poor: 4 of 4 and none.
    assert rows["balanced_accuracy"].tolist() == [(1 + 3 / 4) / 2, 0.5]
    # Of the 16 pairs, 0.6 (reactive) beats none of 0.9 0.8 0.7 0.9; in poor every pair is wrong.
    assert rows["auroc"].tolist() == [1.0, 0.0]
    assert rows["specificity_at_95"].tolist() == [1.0, 0.0]  # below 20, the lowest tumoral decides
    assert (rows["balanced_accuracy_low"] < rows["balanced_accuracy"]).all()
    assert (rows["balanced_accuracy_high"] > rows["balanced_accuracy"]).all()
    assert rows["best_epoch_balanced_accuracy_mean_optimistic"].tolist() == [1.0, 0.5]
    assert rows["best_epoch_balanced_accuracy_std_optimistic"].tolist() == [0.0, 0.0]
    assert rows["seconds"].tolist() == [25.0, 25.0]
    assert rows["seconds_per_fold"].tolist() == [12.5, 12.5]
    blank = ["hard_auroc", "auroc_spread", "pretraining", "baseline"]
    assert rows[blank].isna().all(axis=None)  # no stratum, no repeats, none beside


def test_settings_too_many_to_read_give_way_to_the_folders(tmp_path):
    many = {f"trainer.a_long_setting_{each}": each for each in range(4)}
    for name, changes in (("experiment=a", {}), ("experiment=b", many)):
        make_run(tmp_path / name, config(**changes), n=30, epochs=2)
    runs = [read_run(path) for path in sorted(tmp_path.iterdir())]
    assert list(run_labels(runs).values()) == ["experiment=a", "experiment=b"]


def test_the_best_is_told_fold_by_fold_with_its_odds(summary):
    (_, _, best), printed = summary
    rows = pd.read_csv(best)
    assert rows["fold"].tolist() == ["0", "1", "mean", "std"]
    assert rows["balanced_accuracy"].tolist() == pytest.approx([1, 0.75, 0.875, 0.125 * 2**0.5])
    assert rows["best_epoch"].tolist()[:2] == [2, 1]
    assert rows["best_epoch_balanced_accuracy_optimistic"].tolist() == [1, 1, 1, 0]
    assert rows["configurations_tried"].tolist() == [2] * 4
    assert "Best of 2: SGD" in printed
    assert "0.875" in printed
    assert "2 configurations were tried" in printed
    assert "flatters" in printed


def test_the_figure_is_a_picture_and_summarising_again_changes_nothing(sweep, summary):
    paths, _ = summary
    with Image.open(paths[1]) as image:
        assert image.width >= 1500
        pixels = np.asarray(image.convert("L"))
    assert 0.02 < (pixels < 250).mean() < 0.5
    first = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in summarise(sweep)[0]] == first


def test_the_curve_is_the_mean_over_folds_and_ends_with_the_shortest(tmp_path):
    run = make_run(
        tmp_path / "run", two_folds(), predictions=predictions(*[0.9, 0.1] * 4),
        histories={0: history(0.5, 0.7, 0.9), 1: history(0.7, 0.7)},
    )  # fmt: skip
    curve = epoch_curve(read_run(run))
    assert curve["epoch"].tolist() == [1, 2]
    assert curve["mean"].tolist() == pytest.approx([0.6, 0.7])
    assert curve["std"].tolist() == pytest.approx([0.2 / 2**0.5, 0])


def test_epochs_without_validation_leave_no_gap(tmp_path):
    run = make_run(
        tmp_path / "run", two_folds(), predictions=predictions(*[0.9, 0.1] * 4),
        histories={0: history(None, 0.7, None, 0.9), 1: history(None, 0.7, None, 0.7)},
    )  # fmt: skip
    assert epoch_curve(read_run(run))["epoch"].tolist() == [2, 4]


def test_a_run_that_was_never_validated_has_no_curve(tmp_path):
    run = make_run(
        tmp_path / "run", two_folds(), predictions=predictions(*[0.9, 0.1] * 4),
        histories={0: history(None, None), 1: history(None, None)},
    )  # fmt: skip
    with pytest.raises(InputError, match="no validated epoch"):
        epoch_curve(read_run(run))


def test_the_figure_draws_the_curves_it_is_given():
    curves = {
        "a": pd.DataFrame({"epoch": [1, 2, 3], "mean": [0.5, 0.6, 0.7], "std": [0.1, 0.1, 0.2]}),
        "b $x$": pd.DataFrame({"epoch": [1, 2, 3], "mean": [0.5, 0.7, 0.7], "std": 0.0}),
    }
    [axes] = ablation_figure(curves).axes
    drawn = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert [list(line.get_ydata()) for line in drawn] == [[0.5, 0.6, 0.7], [0.5, 0.7, 0.7]]
    shaded = axes.collections[0].get_paths()[0].vertices
    assert {0.6, 0.8} <= set(shaded[shaded[:, 0] == 3][:, 1].round(9))  # half of 0.2 either side
    assert len({(line.get_linestyle(), line.get_marker()) for line in drawn}) == 2
    assert {"a", "b $x$", "chance"} <= {text.get_text() for text in axes.texts}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_labels_keep_their_order_and_their_distance(values):
    placed = spread(np.array(values), 0.05)
    ordered = placed[np.argsort(values, kind="stable")]
    assert (np.diff(ordered) >= 0.05 - 1e-9).all()
    assert placed.mean() == pytest.approx(np.mean(values))  # nobody is pushed off to one side


def test_labels_that_are_apart_stay_where_they_are():
    assert spread(np.array([0.9, 0.1, 0.5]), 0.05).tolist() == [0.9, 0.1, 0.5]


def test_runs_of_the_same_settings_go_by_their_folder(tmp_path):
    runs = [read_run(make_run(tmp_path / name, n=30, epochs=2)) for name in ("a", "b")]
    assert list(run_labels(runs).values()) == ["a", "b"]


def test_a_setting_that_only_this_sweep_turns_on_gets_a_column(tmp_path):
    runs = [
        read_run(make_run(tmp_path / str(crop), config(**{"data.crop": crop}), n=30, epochs=2))
        for crop in (112, 224)
    ]
    assert sorted(score_table(runs)["data.crop"]) == [112, 224]
    assert sorted(run_labels(runs).values()) == ["crop 112", "crop 224"]


def test_scores_that_are_undefined_stay_empty(tmp_path):
    path = make_run(tmp_path / "run", n=30, epochs=2)
    metrics = json.loads((path / "metrics.json").read_text())
    metrics["folds"][0] |= {"best_epoch": None, "best_epoch_balanced_accuracy": None}
    (path / "metrics.json").write_text(json.dumps(metrics))
    table = fold_table(read_run(path))
    assert table["best_epoch"].isna().tolist()[:2] == [True, False]
    assert table["best_epoch_balanced_accuracy_optimistic"].isna().tolist()[:2] == [True, False]


def test_an_unfinished_run_stops_the_summary_and_leaves_no_file(tmp_path):
    sweep = make_sweep(tmp_path)
    (sweep / "poor" / "fold-1" / "done.json").unlink()
    with pytest.raises(InputError, match="poor is not finished: fold 1 has"):
        summarise(sweep)
    assert not (sweep / "ablation.csv").exists()
