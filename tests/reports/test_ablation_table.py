"""What a sweep's table says of each configuration, and of the baselines in the same folds."""

import json
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score

from lymphoml.evaluation.summary import summarise
from lymphoml.reports.ablation.summary import summarise_ablation
from lymphoml.runs.finished_run import read_run
from tests.reports.fabricate import config, make_predictions, make_run


def told(folder):
    """The files, and what was printed."""
    out = StringIO()
    paths = summarise_ablation(folder, Console(file=out, width=160))
    return paths, out.getvalue()


@pytest.fixture
def full(tmp_path):
    """Two repeats with baselines and a hard stratum."""
    rows = make_predictions(40, folds=2, repeats=2, skill=1.0, seed=0)
    poor, fair = (make_predictions(40, 2, 2, skill, seed=9)["probability"] for skill in (0.0, 1.5))
    baselines = rows[["patient", "fold"]].assign(logistic_regression=poor, random_forest=fair)
    strata = pd.DataFrame({"patient": rows["patient"].unique()})
    strata["hard"] = (strata["patient"].str[-1].astype(int) % 2).astype(str)
    for name, lr, skill in (("strong", 1e-3, 3.0), ("weak", 0.1, 0.2)):
        said = make_predictions(40, 2, 2, skill, seed=3)["probability"]
        predictions = rows.assign(probability=said)
        settings = config(**{"data.folds": 2, "data.repeats": 2, "lr": lr})
        path = make_run(tmp_path / name, settings, epochs=2, predictions=predictions,
                        baselines=baselines)  # fmt: skip
        strata.to_csv(path / "strata.csv", index=False)
        metrics = summarise(
            predictions, read_run(path).histories, 2, strata.set_index("patient"), baselines, 8.0
        )
        (path / "metrics.json").write_text(json.dumps(metrics))
    return tmp_path


def test_a_sweep_is_told_with_its_spread_its_hard_stratum_and_its_baselines(full):
    paths, printed = told(full)
    rows = pd.read_csv(paths[0])
    assert rows["run"].tolist()[:2] == ["strong", "weak"]
    assert rows["baseline"].isna().tolist() == [True, True, False, False]
    assert rows["baseline"].tolist()[2:] == ["random_forest", "logistic_regression"]  # best first
    assert rows.loc[2:, ["run", "lr", "seconds"]].isna().all(axis=None)
    metrics = json.loads((full / "strong" / "metrics.json").read_text())
    first, forest = rows.iloc[0], rows.iloc[2]
    told_of = (metrics["scores"], metrics["baselines"]["random_forest"])
    for row, scores in zip((first, forest), told_of, strict=True):
        for name in ("balanced_accuracy", "auroc", "specificity_at_95", "hard_auroc"):
            value = scores["hard"]["auroc"] if name == "hard_auroc" else scores["all"][name]
            limits = [row[f"{name}{end}"] for end in ("", "_low", "_high")]
            assert limits == pytest.approx([value["value"], value["low"], value["high"]])
    for name, deviation in metrics["split_std"].items():
        assert first[f"{name}_spread"] == pytest.approx(deviation)
    # Of the hard stratum, and of a baseline, worked out repeat by repeat.
    table = read_run(full / "strong").predictions.sort_values(["fold", "patient"])
    beside = pd.read_csv(full / "strong" / "baselines.csv").sort_values(["fold", "patient"])
    inside = (table["patient"].str[-1].astype(int) % 2 == 1).to_numpy()
    for row, probability in ((first, table["probability"]), (forest, beside["random_forest"])):
        each = [
            roc_auc_score(table["label"][part], probability.to_numpy()[part])
            for part in (inside & (table["fold"] // 2 == repeat).to_numpy() for repeat in (0, 1))
        ]
        assert row["hard_auroc_spread"] == pytest.approx(np.std(each, ddof=1))

    assert f"{first['auroc']:.3f} ± {first['auroc_spread']:.3f}" in printed
    assert f"[{forest['hard_auroc_low']:.3f}, {forest['hard_auroc_high']:.3f}]" in printed
    assert f" {forest['specificity_at_95']:.2f} " in printed
    assert "baseline: random forest" in printed
    assert "Best of 2: lr 0.001" in printed  # a baseline is no configuration
    assert "Baselines: those of lr 0.001, in the same folds." in printed
    assert "other clinical columns" not in printed
    assert pd.read_csv(paths[2])["configurations_tried"].tolist() == [2] * 6


def test_a_run_with_other_baselines_is_named(full):
    path = full / "weak" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["baselines"]["random_forest"]["all"]["auroc"]["value"] -= 0.01
    path.write_text(json.dumps(metrics))
    assert "Baselines of other clinical columns or data settings: lr 0.1." in told(full)[1]


def test_runs_of_other_folds_stand_beside_no_baseline(full):
    settings = config(**{"data.folds": 2, "data.repeats": 2, "lr": 0.5})
    make_run(full / "other", settings, n=44, epochs=2, skill=0.0)
    paths, printed = told(full)
    assert pd.read_csv(paths[0])["run"].tolist() == ["strong", "weak", "other"]
    assert "Other patients or folds than lr 0.001: lr 0.5. Their scores do not stand" in printed
    assert "baseline: " not in printed
    assert "Clinical values alone, logistic regression in the same folds" in printed
